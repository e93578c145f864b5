//! IPv4 and IPv6 addresses: parsing, masks, ranges, and addresses within text.
//!
//! An address may carry the length of its network's prefix after a slash. Two addresses are
//! compared in the bits that every prefix at hand covers.

use super::arguments::{Args, Column};
use super::dynamic_text::{self, Items};
use super::{Function, Naming, Parameter, kernel};
use crate::query::types::KqlType;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray};
use datafusion::common::Result;
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::net::{Ipv4Addr, Ipv6Addr};

const PLAIN: Naming = Naming::Default;
const ONE: &[Parameter] = &[Parameter::Text];
const TWO: &[Parameter] = &[Parameter::Text, Parameter::Text];
const MASKED: &[Parameter] = &[Parameter::Text, Parameter::Long];
const PAIR: &[Parameter] = &[Parameter::Text, Parameter::Text, Parameter::Long];
const ANY: &[Parameter] = &[Parameter::Text, Parameter::Any];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("parse_ipv4", PLAIN, ONE, KqlType::Long, |args| {
        let ip = args.text(0)?;
        Ok(args.make_long(|row| Some(i64::from(V4::parse(ip.get(row))?.network()))))
    }),
    kernel("parse_ipv4_mask", PLAIN, MASKED, KqlType::Long, |args| {
        let (ip, mask) = (args.text(0)?, args.long(1)?);
        Ok(args.make_long(|row| {
            Some(i64::from(V4::parse(ip.get(row))?.cut(mask.get(row)?)?.network()))
        }))
    }),
    kernel("parse_ipv6", PLAIN, ONE, KqlType::String, |args| {
        let ip = args.text(0)?;
        Ok(args.make_text(|row| Some(V6::parse(ip.get(row))?.text())))
    }),
    kernel("parse_ipv6_mask", PLAIN, MASKED, KqlType::String, |args| {
        let (ip, mask) = (args.text(0)?, args.long(1)?);
        Ok(args.make_text(|row| Some(V6::parse(ip.get(row))?.cut(mask.get(row)?)?.text())))
    }),
    kernel("ipv4_netmask_suffix", PLAIN, ONE, KqlType::Long, |args| {
        let ip = args.text(0)?;
        Ok(args.make_long(|row| Some(i64::from(V4::parse(ip.get(row))?.prefix))))
    }),
    kernel("ipv4_is_private", PLAIN, ONE, KqlType::Bool, |args| {
        let ip = args.text(0)?;
        Ok(args.make_bool(|row| Some(is_private(V4::parse(ip.get(row))?))))
    }),
    kernel("ipv4_compare", PLAIN, PAIR, KqlType::Long, |args| compare(args, compare_v4))
        .optional(2),
    kernel("ipv4_is_match", PLAIN, PAIR, KqlType::Bool, |args| matched(args, compare_v4))
        .optional(2),
    kernel("ipv6_compare", PLAIN, PAIR, KqlType::Long, |args| compare(args, compare_v6))
        .optional(2),
    kernel("ipv6_is_match", PLAIN, PAIR, KqlType::Bool, |args| matched(args, compare_v6))
        .optional(2),
    kernel("ipv4_is_in_range", PLAIN, TWO, KqlType::Bool, |args| in_range(args, in_range_v4)),
    kernel("ipv6_is_in_range", PLAIN, TWO, KqlType::Bool, |args| in_range(args, in_range_v6)),
    kernel("ipv4_is_in_any_range", PLAIN, ANY, KqlType::Bool, |args| {
        in_any_range(args, in_range_v4)
    })
    .repeated(),
    kernel("ipv6_is_in_any_range", PLAIN, ANY, KqlType::Bool, |args| {
        in_any_range(args, in_range_v6)
    })
    .repeated(),
    kernel("format_ipv4", PLAIN, &[Parameter::Any, Parameter::Long], KqlType::String, |args| {
        format(args, false)
    })
    .optional(1),
    kernel(
        "format_ipv4_mask",
        PLAIN,
        &[Parameter::Any, Parameter::Long],
        KqlType::String,
        |args| format(args, true),
    )
    .optional(1),
    kernel("ipv4_range_to_cidr_list", PLAIN, TWO, KqlType::Dynamic, |args| {
        let (first, last) = (args.text(0)?, args.text(1)?);
        dynamic_text::make(args, |row| {
            let (first, last) = (V4::parse(first.get(row))?, V4::parse(last.get(row))?);
            let blocks = cidr_blocks(first.network(), last.network());
            Some(Json::from(blocks.iter().map(V4::cidr).collect::<Vec<_>>()))
        })
    }),
    kernel("has_ipv4", PLAIN, TWO, KqlType::Bool, |args| has_any(args, address)),
    kernel("has_ipv4_prefix", PLAIN, TWO, KqlType::Bool, |args| has_any(args, prefix)),
    kernel("has_any_ipv4", PLAIN, ANY, KqlType::Bool, |args| has_any(args, address)).repeated(),
    kernel("has_any_ipv4_prefix", PLAIN, ANY, KqlType::Bool, |args| has_any(args, prefix))
        .repeated(),
];

/// An IPv4 address and the length of its network's prefix, at most 32 bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct V4 {
    address: u32,
    prefix: u8,
}

/// An IPv6 address and the length of its network's prefix, at most 128 bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct V6 {
    address: u128,
    prefix: u8,
}

/// Text before a slash, and the prefix's length after it.
fn split(text: &str, bits: u8) -> Option<(&str, u8)> {
    let text = text.trim();
    let Some((address, prefix)) = text.split_once('/') else { return Some((text, bits)) };
    let digits = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix: u8 = if digits { prefix.parse().ok()? } else { return None };
    (prefix <= bits).then_some((address, prefix))
}

/// The shorter of two prefixes, or `None` if the second is none.
fn shorter(prefix: u8, mask: i64, bits: u8) -> Option<u8> {
    let mask = u8::try_from(mask).ok().filter(|mask| *mask <= bits)?;
    Some(prefix.min(mask))
}

impl V4 {
    fn parse(text: &str) -> Option<Self> {
        let (text, prefix) = split(text, 32)?;
        let mut address = 0_u32;
        let mut count = 0;
        for part in text.split('.') {
            let valid = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            let byte: u8 = if valid { part.parse().ok()? } else { return None };
            address = (address << 8) | u32::from(byte);
            count += 1;
            if count > 4 {
                return None;
            }
        }
        (count == 4).then_some(Self { address, prefix })
    }

    /// With at most so long a prefix.
    fn cut(self, mask: i64) -> Option<Self> {
        Some(Self { prefix: shorter(self.prefix, mask, 32)?, ..self })
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(u32::from(32 - self.prefix)).unwrap_or(0)
    }

    fn network(self) -> u32 {
        self.address & self.mask()
    }

    fn text(self) -> String {
        Ipv4Addr::from(self.network()).to_string()
    }

    fn cidr(&self) -> String {
        format!("{}/{}", self.text(), self.prefix)
    }
}

impl V6 {
    /// An IPv4 address stands for the IPv6 address that maps to it.
    fn parse(text: &str) -> Option<Self> {
        if let Some(V4 { address, prefix }) = V4::parse(text) {
            let address = (0xffff_u128 << 32) | u128::from(address);
            return Some(Self { address, prefix: prefix + 96 });
        }
        let (text, prefix) = split(text, 128)?;
        let address = text.parse::<Ipv6Addr>().ok()?;
        // Behind an address that ends like one of IPv4, a prefix counts that end's bits.
        let prefix = if text.contains('.') && prefix <= 32 { prefix + 96 } else { prefix };
        Some(Self { address: u128::from(address), prefix })
    }

    /// For a comparison, in which `::1.2.3.4` is the IPv4 address too.
    fn parse_mapped(text: &str) -> Option<Self> {
        let ip = Self::parse(text)?;
        let compatible = text.contains('.') && ip.address >> 32 == 0;
        Some(if compatible { Self { address: ip.address | 0xffff << 32, ..ip } } else { ip })
    }

    fn cut(self, mask: i64) -> Option<Self> {
        Some(Self { prefix: shorter(self.prefix, mask, 128)?, ..self })
    }

    fn network(self) -> u128 {
        self.address & u128::MAX.checked_shl(u32::from(128 - self.prefix)).unwrap_or(0)
    }

    /// Eight groups of four digits.
    fn text(self) -> String {
        let groups = Ipv6Addr::from(self.network()).segments().map(|group| format!("{group:04x}"));
        groups.join(":")
    }
}

fn is_private(ip: V4) -> bool {
    let inside =
        |range: V4| ip.prefix >= range.prefix && ip.address & range.mask() == range.address;
    [(0x0a00_0000, 8), (0xac10_0000, 12), (0xc0a8_0000, 16)]
        .into_iter()
        .any(|(address, prefix)| inside(V4 { address, prefix }))
}

fn compare_v4(left: &str, right: &str, mask: Option<i64>) -> Option<Ordering> {
    let (left, right) = (V4::parse(left)?, V4::parse(right)?);
    let prefix = left.prefix.min(right.prefix);
    let prefix = mask.map_or(Some(prefix), |mask| shorter(prefix, mask, 32))?;
    Some(V4 { prefix, ..left }.network().cmp(&V4 { prefix, ..right }.network()))
}

fn compare_v6(left: &str, right: &str, mask: Option<i64>) -> Option<Ordering> {
    let both_v4 = V4::parse(left).is_some() && V4::parse(right).is_some();
    let (left, right) = (V6::parse_mapped(left)?, V6::parse_mapped(right)?);
    let prefix = left.prefix.min(right.prefix);
    // Between two addresses of IPv4, a mask of at most 32 bits counts bits of those.
    let mask = mask.map(|mask| if both_v4 && (0..=32).contains(&mask) { mask + 96 } else { mask });
    let prefix = mask.map_or(Some(prefix), |mask| shorter(prefix, mask, 128))?;
    Some(V6 { prefix, ..left }.network().cmp(&V6 { prefix, ..right }.network()))
}

fn in_range_v4(ip: &str, range: &str) -> Option<bool> {
    let (ip, range) = (V4::parse(ip)?, V4::parse(range)?);
    Some(ip.network() & range.mask() == range.network())
}

fn in_range_v6(ip: &str, range: &str) -> Option<bool> {
    let (ip, range) = (V6::parse(ip)?, V6::parse(range)?);
    let ip = V6 { address: ip.network(), prefix: range.prefix };
    Some(ip.network() == range.network())
}

type Compare = fn(&str, &str, Option<i64>) -> Option<Ordering>;

/// The order of each row's addresses.
fn orders<'a>(
    args: &'a Args<'_>,
    compare: Compare,
) -> Result<impl Fn(usize) -> Option<Ordering> + use<'a>> {
    let (left, right) = (args.text(0)?, args.text(1)?);
    let mask = if args.len() > 2 { Some(args.long(2)?) } else { None };
    Ok(move |row| {
        let mask = match &mask {
            Some(mask) => Some(mask.get(row)?),
            None => None,
        };
        compare(left.get(row), right.get(row), mask)
    })
}

fn compare(args: &Args<'_>, compare: Compare) -> Result<ArrayRef> {
    let order = orders(args, compare)?;
    Ok(args.make_long(|row| order(row).map(|order| order as i64)))
}

fn matched(args: &Args<'_>, compare: Compare) -> Result<ArrayRef> {
    let order = orders(args, compare)?;
    Ok(args.make_bool(|row| order(row).map(Ordering::is_eq)))
}

type InRange = fn(&str, &str) -> Option<bool>;

fn in_range(args: &Args<'_>, inside: InRange) -> Result<ArrayRef> {
    let (ip, range) = (args.text(0)?, args.text(1)?);
    Ok(args.make_bool(|row| inside(ip.get(row), range.get(row))))
}

/// The ranges are arguments or members of a dynamic array.
fn in_any_range(args: &Args<'_>, inside: InRange) -> Result<ArrayRef> {
    let ip = args.text(0)?;
    let ranges = Items::read(args, 1)?;
    Ok(args.make_bool(|row| {
        let ip = ip.get(row);
        let mut valid = None;
        for range in ranges.at(row).iter() {
            match inside(ip, range) {
                Some(true) => return Some(true),
                Some(false) => valid = Some(false),
                None => {}
            }
        }
        valid
    }))
}

/// An address as text or as a number, with a prefix.
fn format(args: &Args<'_>, with_prefix: bool) -> Result<ArrayRef> {
    enum Address {
        Text(Column<StringViewArray>),
        Number(Column<Int64Array>),
    }
    let ip = match args.kql_type(0)? {
        KqlType::Int | KqlType::Long => Address::Number(args.long(0)?),
        _ => Address::Text(args.text(0)?),
    };
    let mask = if args.len() > 1 { Some(args.long(1)?) } else { None };
    Ok(args.make_text(|row| {
        let ip = match &ip {
            Address::Text(text) => V4::parse(text.get(row))?,
            Address::Number(number) => {
                V4 { address: u32::try_from(number.get(row)?).ok()?, prefix: 32 }
            }
        };
        let mask = match &mask {
            Some(mask) => mask.get(row)?,
            None => 32,
        };
        let ip = ip.cut(mask)?;
        Some(if with_prefix { ip.cidr() } else { ip.text() })
    }))
}

/// The fewest networks that cover a range of addresses exactly.
fn cidr_blocks(first: u32, last: u32) -> Vec<V4> {
    let (mut next, last) = (u64::from(first), u64::from(last));
    let mut blocks = Vec::new();
    while next <= last {
        let aligned = if next == 0 { 32 } else { next.trailing_zeros().min(32) };
        let fits = (last - next + 1).ilog2();
        let bits = aligned.min(fits);
        let Ok(address) = u32::try_from(next) else { break };
        blocks.push(V4 { address, prefix: u8::try_from(32 - bits).unwrap_or(32) });
        next += 1_u64 << bits;
    }
    blocks
}

/// The text of an address to look for, if it is one.
fn address(text: &str) -> Option<(&str, bool)> {
    (!text.contains('/')).then(|| V4::parse(text)).flatten().map(|_| (text.trim(), true))
}

/// An address, or the first bytes of one with a dot after them.
fn prefix(text: &str) -> Option<(&str, bool)> {
    let Some(bytes) = text.strip_suffix('.') else { return address(text) };
    let bytes: Vec<&str> = bytes.split('.').collect();
    let valid = bytes.len() <= 3 && bytes.iter().all(|byte| byte.parse::<u8>().is_ok());
    valid.then_some((text, false))
}

/// Whether an address of one of the sought kinds stands in the text, with nothing that could
/// belong to it around it.
fn has_any(args: &Args<'_>, sought: fn(&str) -> Option<(&str, bool)>) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let items = Items::read(args, 1)?;
    Ok(args.make_bool(|row| {
        let text = text.get(row);
        let found = items.at(row).iter().any(|item| {
            sought(item).is_some_and(|(item, whole)| {
                addresses(text).any(|a| if whole { a == item } else { a.starts_with(item) })
            })
        });
        Some(found)
    }))
}

/// The addresses in a text that letters and digits do not touch.
fn addresses(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '.')
        .map(|run| run.trim_matches('.'))
        .filter(|run| V4::parse(run).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse() {
        let v4 = |text| V4::parse(text).map(|ip| ip.cidr());
        assert_eq!(v4("10.1.2.3"), Some("10.1.2.3/32".to_owned()));
        assert_eq!(v4("10.1.2.3/20"), Some("10.1.0.0/20".to_owned()));
        assert_eq!(v4("0.0.0.0/0"), Some("0.0.0.0/0".to_owned()));
        for bad in ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.4/33", "1.2.3.4/", "a.b.c.d"] {
            assert_eq!(v4(bad), None, "{bad}");
        }
        let v6 = |text| V6::parse(text).map(V6::text);
        assert_eq!(v6("::1").as_deref(), Some("0000:0000:0000:0000:0000:0000:0000:0001"));
        assert_eq!(v6("1.2.3.4/8").as_deref(), Some("0000:0000:0000:0000:0000:ffff:0100:0000"));
        assert_eq!(v6("fe80::1/129"), None);
    }

    #[test]
    fn addresses_compare_in_the_bits_of_both_prefixes() {
        for (left, right, mask, expect) in [
            ("10.0.0.1", "10.0.0.1", None, Some(Ordering::Equal)),
            ("10.0.0.1", "10.0.0.2", None, Some(Ordering::Less)),
            ("10.0.0.9/24", "10.0.0.2", None, Some(Ordering::Equal)),
            ("10.0.1.1", "10.0.0.2", Some(16), Some(Ordering::Equal)),
            ("10.0.1.1", "10.0.0.2", Some(33), None),
            ("x", "10.0.0.2", None, None),
        ] {
            assert_eq!(compare_v4(left, right, mask), expect, "{left} {right}");
        }
        assert_eq!(compare_v6("10.0.0.1", "::ffff:a00:1", None), Some(Ordering::Equal));
        assert_eq!(compare_v6("10.0.0.1", "::10.0.0.9/24", None), Some(Ordering::Equal));
        assert_eq!(in_range_v4("10.9.9.9", "10.0.0.0/8"), Some(true));
        assert_eq!(in_range_v6("10.9.9.9", "fe80::/10"), Some(false));
        assert!(is_private(V4 { address: 0x0a01_0203, prefix: 32 }));
        assert!(!is_private(V4 { address: 0x0800_0000, prefix: 5 }));
    }

    #[test]
    fn ranges_become_networks() {
        let blocks = |first: &str, last: &str| {
            let network = |text| V4::parse(text).expect("an address").network();
            let blocks = cidr_blocks(network(first), network(last));
            blocks.iter().map(V4::cidr).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(blocks("1.1.1.1", "1.1.1.4"), "1.1.1.1/32 1.1.1.2/31 1.1.1.4/32");
        assert_eq!(blocks("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        assert_eq!(blocks("2.0.0.0", "1.0.0.0"), "");
    }

    #[test]
    fn addresses_stand_alone_in_text() {
        let found = |text| addresses(text).collect::<Vec<_>>().join(" ");
        assert_eq!(found("from 10.0.0.1, to:10.0.0.2."), "10.0.0.1 10.0.0.2");
        assert_eq!(found("x10.0.0.1 10.0.0.1x 10.0.0.256"), "");
        assert_eq!(prefix("10.0."), Some(("10.0.", false)));
        assert_eq!(prefix("10.0"), None);
    }
}
