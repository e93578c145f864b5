//! `convert_…`: a measure from one unit to another.

use super::arguments::Args;
use super::{Function, Naming, Parameter, kernel};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;
use std::f64::consts::PI;

const PARAMETERS: &[Parameter] = &[Parameter::Real, Parameter::Text, Parameter::Text];

const fn measure(name: &'static str, run: super::KernelFn) -> Function {
    kernel(name, Naming::Default, PARAMETERS, KqlType::Real, run)
}

pub(super) const FUNCTIONS: &[Function] = &[
    measure("convert_angle", |args| convert(args, angle)),
    measure("convert_energy", |args| convert(args, |unit| linear(ENERGY, unit))),
    measure("convert_force", |args| convert(args, |unit| linear(FORCE, unit))),
    measure("convert_length", |args| convert(args, |unit| linear(LENGTH, unit))),
    measure("convert_mass", |args| convert(args, |unit| linear(MASS, unit))),
    measure("convert_speed", |args| convert(args, |unit| linear(SPEED, unit))),
    measure("convert_temperature", |args| convert(args, temperature)),
    measure("convert_volume", |args| convert(args, |unit| linear(VOLUME, unit))),
];

/// How a unit relates to the base unit of its measure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    /// So many base units, counted from a zero that lies at so many base units.
    Scale { factor: f64, zero: f64 },
    /// The sine of an angle.
    Sine,
}

impl Unit {
    const fn times(factor: f64) -> Self {
        Self::Scale { factor, zero: 0.0 }
    }

    fn to_base(self, value: f64) -> f64 {
        match self {
            Self::Scale { factor, zero } => value * factor + zero,
            Self::Sine => value.asin(),
        }
    }

    fn of_base(self, value: f64) -> f64 {
        match self {
            Self::Scale { factor, zero } => (value - zero) / factor,
            Self::Sine => value.sin(),
        }
    }
}

/// A unit that is not one of the measure makes null.
fn convert(args: &Args<'_>, unit: impl Fn(&str) -> Option<Unit>) -> Result<ArrayRef> {
    let (value, from, to) = (args.real(0)?, args.text(1)?, args.text(2)?);
    let constant =
        (from.is_single() && to.is_single()).then(|| unit(from.get(0)).zip(unit(to.get(0))));
    Ok(args.make_real(|row| {
        let value = value.get(row)?;
        let (from, to) = match constant {
            Some(units) => units?,
            None => (unit(from.get(row))?, unit(to.get(row))?),
        };
        Some(to.of_base(from.to_base(value)))
    }))
}

fn linear(units: &[(&str, f64)], name: &str) -> Option<Unit> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, factor)| Unit::times(*factor))
}

/// In radians.
fn angle(name: &str) -> Option<Unit> {
    const DEGREE: f64 = PI / 180.0;
    Some(Unit::times(match name {
        "Arcminute" => DEGREE / 60.0,
        "Arcsecond" => DEGREE / 3600.0,
        "Centiradian" => 1e-2,
        "Deciradian" => 1e-1,
        "Degree" => DEGREE,
        "Gradian" => DEGREE * 0.9,
        "Microdegree" => DEGREE * 1e-6,
        "Microradian" => 1e-6,
        "Millidegree" => DEGREE * 1e-3,
        "Milliradian" => 1e-3,
        "Nanodegree" => DEGREE * 1e-9,
        "Nanoradian" => 1e-9,
        "NatoMil" => DEGREE * 9.0 / 160.0,
        "Radian" => 1.0,
        "Revolution" => 2.0 * PI,
        "Tilt" => return Some(Unit::Sine),
        _ => return None,
    }))
}

/// In kelvins.
fn temperature(name: &str) -> Option<Unit> {
    const ICE: f64 = 273.15;
    let (factor, zero) = match name {
        "DegreeCelsius" => (1.0, ICE),
        "DegreeDelisle" => (-2.0 / 3.0, ICE + 100.0),
        "DegreeFahrenheit" => (5.0 / 9.0, 459.67 * 5.0 / 9.0),
        "DegreeNewton" => (100.0 / 33.0, ICE),
        "DegreeRankine" => (5.0 / 9.0, 0.0),
        "DegreeReaumur" => (5.0 / 4.0, ICE),
        "DegreeRoemer" => (40.0 / 21.0, ICE - 7.5 * 40.0 / 21.0),
        "Kelvin" => (1.0, 0.0),
        "MillidegreeCelsius" => (1e-3, ICE),
        "SolarTemperature" => (5778.0, 0.0),
        _ => return None,
    };
    Some(Unit::Scale { factor, zero })
}

const BTU: f64 = 1_055.055_852_62;
const CALORIE: f64 = 4.184;
const ELECTRON_VOLT: f64 = 1.602_176_565e-19;

/// In joules.
const ENERGY: &[(&str, f64)] = &[
    ("BritishThermalUnit", BTU),
    ("Calorie", CALORIE),
    ("DecathermEc", 1.055_055_852_62e9),
    ("DecathermImperial", 1.055_055_852_573_48e9),
    ("DecathermUs", 1.054_804e9),
    ("ElectronVolt", ELECTRON_VOLT),
    ("Erg", 1e-7),
    ("FootPound", 1.355_817_948),
    ("GigabritishThermalUnit", BTU * 1e9),
    ("GigaelectronVolt", ELECTRON_VOLT * 1e9),
    ("Gigajoule", 1e9),
    ("GigawattDay", 86_400e9),
    ("GigawattHour", 3_600e9),
    ("HorsepowerHour", 2_684_519.537_696_173),
    ("Joule", 1.0),
    ("KilobritishThermalUnit", BTU * 1e3),
    ("Kilocalorie", CALORIE * 1e3),
    ("KiloelectronVolt", ELECTRON_VOLT * 1e3),
    ("Kilojoule", 1e3),
    ("KilowattDay", 86_400e3),
    ("KilowattHour", 3_600e3),
    ("MegabritishThermalUnit", BTU * 1e6),
    ("Megacalorie", CALORIE * 1e6),
    ("MegaelectronVolt", ELECTRON_VOLT * 1e6),
    ("Megajoule", 1e6),
    ("MegawattDay", 86_400e6),
    ("MegawattHour", 3_600e6),
    ("Millijoule", 1e-3),
    ("TeraelectronVolt", ELECTRON_VOLT * 1e12),
    ("TerawattDay", 86_400e12),
    ("TerawattHour", 3_600e12),
    ("ThermEc", 1.055_055_852_62e8),
    ("ThermImperial", 1.055_055_852_573_48e8),
    ("ThermUs", 1.054_804e8),
    ("WattDay", 86_400.0),
    ("WattHour", 3_600.0),
];

const POUND: f64 = 0.453_592_37;
const GRAVITY: f64 = 9.806_65;

/// In newtons.
const FORCE: &[(&str, f64)] = &[
    ("Decanewton", 10.0),
    ("Dyn", 1e-5),
    ("KilogramForce", GRAVITY),
    ("Kilonewton", 1e3),
    ("KiloPond", GRAVITY),
    ("KilopoundForce", POUND * GRAVITY * 1e3),
    ("Meganewton", 1e6),
    ("Micronewton", 1e-6),
    ("Millinewton", 1e-3),
    ("Newton", 1.0),
    ("OunceForce", POUND * GRAVITY / 16.0),
    ("Poundal", POUND * 0.3048),
    ("PoundForce", POUND * GRAVITY),
    ("ShortTonForce", POUND * GRAVITY * 2e3),
    ("TonneForce", GRAVITY * 1e3),
];

const FOOT: f64 = 0.3048;
const SURVEY_FOOT: f64 = 1200.0 / 3937.0;
const INCH: f64 = 0.0254;
const YARD: f64 = 0.9144;
const LIGHT_YEAR: f64 = 9.460_730_472_58e15;
const PARSEC: f64 = 3.085_677_581_28e16;

/// In metres.
const LENGTH: &[(&str, f64)] = &[
    ("Angstrom", 1e-10),
    ("AstronomicalUnit", 1.495_978_707_00e11),
    ("Centimeter", 1e-2),
    ("Chain", 20.1168),
    ("DataMile", 1828.8),
    ("Decameter", 10.0),
    ("Decimeter", 0.1),
    ("DtpPica", INCH / 6.0),
    ("DtpPoint", INCH / 72.0),
    ("Fathom", 1.8288),
    ("Foot", FOOT),
    ("Hand", 0.1016),
    ("Hectometer", 1e2),
    ("Inch", INCH),
    ("KilolightYear", LIGHT_YEAR * 1e3),
    ("Kilometer", 1e3),
    ("Kiloparsec", PARSEC * 1e3),
    ("LightYear", LIGHT_YEAR),
    ("MegalightYear", LIGHT_YEAR * 1e6),
    ("Megaparsec", PARSEC * 1e6),
    ("Meter", 1.0),
    ("Microinch", INCH * 1e-6),
    ("Micrometer", 1e-6),
    ("Mil", INCH * 1e-3),
    ("Mile", 1609.344),
    ("Millimeter", 1e-3),
    ("Nanometer", 1e-9),
    ("NauticalMile", 1852.0),
    ("Parsec", PARSEC),
    ("PrinterPica", INCH * 12.0 / 72.27),
    ("PrinterPoint", INCH / 72.27),
    ("Shackle", 27.432),
    ("SolarRadius", 6.955_1e8),
    ("Twip", INCH / 1440.0),
    ("UsSurveyFoot", SURVEY_FOOT),
    ("Yard", YARD),
];

/// In kilograms.
const MASS: &[(&str, f64)] = &[
    ("Centigram", 1e-5),
    ("Decagram", 1e-2),
    ("Decigram", 1e-4),
    ("EarthMass", 5.972_2e24),
    ("Grain", POUND / 7000.0),
    ("Gram", 1e-3),
    ("Hectogram", 0.1),
    ("Kilogram", 1.0),
    ("Kilopound", POUND * 1e3),
    ("Kilotonne", 1e6),
    ("LongHundredweight", POUND * 112.0),
    ("LongTon", POUND * 2240.0),
    ("Megapound", POUND * 1e6),
    ("Megatonne", 1e9),
    ("Microgram", 1e-9),
    ("Milligram", 1e-6),
    ("Nanogram", 1e-12),
    ("Ounce", POUND / 16.0),
    ("Pound", POUND),
    ("ShortHundredweight", POUND * 100.0),
    ("ShortTon", POUND * 2000.0),
    ("Slug", POUND * GRAVITY / FOOT),
    ("SolarMass", 1.989_47e30),
    ("Stone", POUND * 14.0),
    ("Tonne", 1e3),
];

const HOUR: f64 = 3600.0;
const MINUTE: f64 = 60.0;

/// In metres a second.
const SPEED: &[(&str, f64)] = &[
    ("CentimeterPerHour", 1e-2 / HOUR),
    ("CentimeterPerMinute", 1e-2 / MINUTE),
    ("CentimeterPerSecond", 1e-2),
    ("DecimeterPerMinute", 0.1 / MINUTE),
    ("DecimeterPerSecond", 0.1),
    ("FootPerHour", FOOT / HOUR),
    ("FootPerMinute", FOOT / MINUTE),
    ("FootPerSecond", FOOT),
    ("InchPerHour", INCH / HOUR),
    ("InchPerMinute", INCH / MINUTE),
    ("InchPerSecond", INCH),
    ("KilometerPerHour", 1e3 / HOUR),
    ("KilometerPerMinute", 1e3 / MINUTE),
    ("KilometerPerSecond", 1e3),
    ("Knot", 1852.0 / HOUR),
    ("MeterPerHour", 1.0 / HOUR),
    ("MeterPerMinute", 1.0 / MINUTE),
    ("MeterPerSecond", 1.0),
    ("MicrometerPerMinute", 1e-6 / MINUTE),
    ("MicrometerPerSecond", 1e-6),
    ("MilePerHour", 1609.344 / HOUR),
    ("MillimeterPerHour", 1e-3 / HOUR),
    ("MillimeterPerMinute", 1e-3 / MINUTE),
    ("MillimeterPerSecond", 1e-3),
    ("NanometerPerMinute", 1e-9 / MINUTE),
    ("NanometerPerSecond", 1e-9),
    ("UsSurveyFootPerHour", SURVEY_FOOT / HOUR),
    ("UsSurveyFootPerMinute", SURVEY_FOOT / MINUTE),
    ("UsSurveyFootPerSecond", SURVEY_FOOT),
    ("YardPerHour", YARD / HOUR),
    ("YardPerMinute", YARD / MINUTE),
    ("YardPerSecond", YARD),
];

const LITER: f64 = 1e-3;
const CUBIC_FOOT: f64 = FOOT * FOOT * FOOT;
const CUBIC_INCH: f64 = INCH * INCH * INCH;
const US_GALLON: f64 = 3.785_411_784e-3;
const IMPERIAL_GALLON: f64 = 4.546_09e-3;

/// In cubic metres.
const VOLUME: &[(&str, f64)] = &[
    // The engine's acre foot is a rounded one.
    ("AcreFoot", 1.0 / 0.000_810_714),
    ("AuTablespoon", 2e-5),
    ("BoardFoot", CUBIC_FOOT / 12.0),
    ("Centiliter", LITER * 1e-2),
    ("CubicCentimeter", 1e-6),
    ("CubicDecimeter", 1e-3),
    ("CubicFoot", CUBIC_FOOT),
    ("CubicHectometer", 1e6),
    ("CubicInch", CUBIC_INCH),
    ("CubicKilometer", 1e9),
    ("CubicMeter", 1.0),
    ("CubicMicrometer", 1e-18),
    ("CubicMile", 1609.344 * 1609.344 * 1609.344),
    ("CubicMillimeter", 1e-9),
    ("CubicYard", YARD * YARD * YARD),
    ("Decaliter", LITER * 10.0),
    ("DecausGallon", US_GALLON * 10.0),
    ("Deciliter", LITER * 0.1),
    ("DeciusGallon", US_GALLON * 0.1),
    ("HectocubicFoot", CUBIC_FOOT * 1e2),
    ("HectocubicMeter", 1e2),
    ("Hectoliter", LITER * 1e2),
    ("HectousGallon", US_GALLON * 1e2),
    ("ImperialBeerBarrel", IMPERIAL_GALLON * 36.0),
    ("ImperialGallon", IMPERIAL_GALLON),
    ("ImperialOunce", IMPERIAL_GALLON / 160.0),
    ("ImperialPint", IMPERIAL_GALLON / 8.0),
    ("KilocubicFoot", CUBIC_FOOT * 1e3),
    ("KilocubicMeter", 1e3),
    ("KiloimperialGallon", IMPERIAL_GALLON * 1e3),
    ("Kiloliter", LITER * 1e3),
    ("KilousGallon", US_GALLON * 1e3),
    ("Liter", LITER),
    ("MegacubicFoot", CUBIC_FOOT * 1e6),
    ("MegaimperialGallon", IMPERIAL_GALLON * 1e6),
    ("Megaliter", LITER * 1e6),
    ("MegausGallon", US_GALLON * 1e6),
    ("MetricCup", 2.5e-4),
    ("MetricTeaspoon", 5e-6),
    ("Microliter", LITER * 1e-6),
    ("Milliliter", LITER * 1e-3),
    ("OilBarrel", US_GALLON * 42.0),
    ("UkTablespoon", 1.5e-5),
    ("UsBeerBarrel", US_GALLON * 31.0),
    ("UsCustomaryCup", US_GALLON / 16.0),
    ("UsGallon", US_GALLON),
    ("UsLegalCup", 2.4e-4),
    ("UsOunce", US_GALLON / 128.0),
    ("UsPint", US_GALLON / 8.0),
    ("UsQuart", US_GALLON / 4.0),
    ("UsTablespoon", US_GALLON / 256.0),
    ("UsTeaspoon", US_GALLON / 768.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: impl Fn(&str) -> Option<Unit>, value: f64, from: &str, to: &str, expect: f64) {
        let (Some(a), Some(b)) = (unit(from), unit(to)) else { panic!("{from} or {to}") };
        let found = b.of_base(a.to_base(value));
        assert!((found - expect).abs() < 1e-9 * expect.abs().max(1.0), "{from} {to} {found}");
    }

    #[test]
    fn units_convert() {
        check(|unit| linear(LENGTH, unit), 1.0, "Mile", "Foot", 5280.0);
        check(|unit| linear(LENGTH, unit), 1.0, "Twip", "DtpPoint", 0.05);
        check(|unit| linear(SPEED, unit), 1.0, "Knot", "KilometerPerHour", 1.852);
        check(|unit| linear(MASS, unit), 1.0, "LongTon", "Pound", 2240.0);
        check(|unit| linear(VOLUME, unit), 1.0, "UsGallon", "CubicInch", 231.0);
        check(|unit| linear(ENERGY, unit), 1.0, "WattDay", "Kilojoule", 86.4);
        check(|unit| linear(FORCE, unit), 1.0, "TonneForce", "KiloPond", 1000.0);
        check(angle, 1.0, "Revolution", "Gradian", 400.0);
        check(angle, 30.0, "Degree", "Tilt", 0.5);
        check(temperature, 100.0, "DegreeCelsius", "DegreeFahrenheit", 212.0);
        check(temperature, 0.0, "DegreeDelisle", "DegreeCelsius", 100.0);
        check(temperature, 60.0, "DegreeRoemer", "DegreeReaumur", 80.0);
        assert_eq!(linear(LENGTH, "meter"), None);
    }
}
