//! The process's metrics, and their text for Prometheus.
//!
//! The services count through the `metrics` facade; here is what keeps the counts. A histogram has
//! fixed buckets, so a series takes the same memory however much is recorded, and there is a bound
//! on series. ARCHITECTURE.md lists every name; its table is also the help text of the exposition.

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The most series of one process. Past it a series is not kept, and counted as refused.
const SERIES_MAX: usize = 10_000;

/// Upper bounds of the buckets of every histogram, in seconds; one more has no bound.
const BUCKETS_SECONDS: [f64; 18] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0, 1800.0,
];

/// The content type of [`Registry::render`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The table of metrics, as people read it.
const ARCHITECTURE: &str = include_str!("../../../../ARCHITECTURE.md");

/// Keeps what the services count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    series: Arc<RwLock<HashMap<Key, Series>>>,
    refused: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
enum Series {
    Counter(Arc<AtomicU64>),
    /// The bits of a double.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

impl Series {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

#[derive(Debug, Default)]
struct Buckets {
    /// How many values each bucket alone has; the last has those above every bound.
    counts: [AtomicU64; BUCKETS_SECONDS.len() + 1],
    /// The bits of a double.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let bucket = BUCKETS_SECONDS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Registry {
    /// A registry that the services of this process count into from now on; one that stays empty
    /// if the process has another already.
    pub(crate) fn install() -> Self {
        let registry = Self::default();
        if let Err(error) = metrics::set_global_recorder(registry.clone()) {
            tracing::warn!(%error, "metrics are kept elsewhere");
        }
        registry
    }

    fn series(&self, key: &Key, new: impl FnOnce() -> Series) -> Option<Series> {
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if known.is_some() {
            return known;
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if series.len() >= SERIES_MAX && !series.contains_key(key) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(series.entry(key.clone()).or_insert_with(new).clone())
    }

    /// Everything, in version 0.0.4 of Prometheus' text format: families and series in order of
    /// their names and labels.
    pub(crate) fn render(&self) -> String {
        let mut families: BTreeMap<String, BTreeMap<String, Series>> = BTreeMap::new();
        for (key, series) in self.series.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels: Vec<String> = key.labels().map(|it| label(it.key(), it.value())).collect();
            let family = families.entry(key.name().to_owned()).or_default();
            family.insert(labels.join(","), series.clone());
        }
        let refused = Series::Counter(Arc::clone(&self.refused));
        families.insert(REFUSED.to_owned(), BTreeMap::from([(String::new(), refused)]));
        let mut text = String::new();
        for (name, family) in &families {
            // One name is one kind of metric; what was registered as another is left out.
            let Some(kind) = family.values().next().map(Series::kind) else { continue };
            if let Some(help) = help(name) {
                let _ = writeln!(text, "# HELP {name} {}", help.replace('\\', "\\\\"));
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for (labels, series) in family.iter().filter(|(_, series)| series.kind() == kind) {
                write_series(&mut text, name, labels, series);
            }
        }
        text
    }
}

/// The name of the counter of series past [`SERIES_MAX`].
const REFUSED: &str = "oms_metrics_series_refused_total";

fn write_series(text: &mut String, name: &str, labels: &str, series: &Series) {
    let braced = |more: &str| match (labels.is_empty(), more.is_empty()) {
        (true, true) => String::new(),
        (false, false) => format!("{{{labels},{more}}}"),
        _ => format!("{{{labels}{more}}}"),
    };
    match series {
        Series::Counter(value) => {
            let _ = writeln!(text, "{name}{} {}", braced(""), value.load(Ordering::Relaxed));
        }
        Series::Gauge(bits) => {
            let value = f64::from_bits(bits.load(Ordering::Relaxed));
            let _ = writeln!(text, "{name}{} {}", braced(""), number(value));
        }
        Series::Histogram(buckets) => {
            let mut total = 0;
            for (index, count) in buckets.counts.iter().enumerate() {
                total += count.load(Ordering::Relaxed);
                let bound = BUCKETS_SECONDS.get(index).copied().unwrap_or(f64::INFINITY);
                let labels = braced(&label("le", &number(bound)));
                let _ = writeln!(text, "{name}_bucket{labels} {total}");
            }
            let sum = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
            let _ = writeln!(text, "{name}_sum{} {}", braced(""), number(sum));
            let _ = writeln!(text, "{name}_count{} {total}", braced(""));
        }
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

/// What ARCHITECTURE.md says that a metric means.
fn help(name: &str) -> Option<&'static str> {
    let cell = format!("| `{name}` |");
    let row = ARCHITECTURE.lines().find(|line| line.starts_with(&cell))?;
    row.trim_end_matches('|').rsplit('|').next().map(str::trim)
}

impl Recorder for Registry {
    // The meaning of a metric stands in ARCHITECTURE.md.
    fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn describe_gauge(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        match self.series(key, || Series::Counter(Arc::default())) {
            Some(Series::Counter(value)) => Counter::from_arc(value),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        match self.series(key, || Series::Gauge(Arc::default())) {
            Some(Series::Gauge(value)) => Gauge::from_arc(value),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        match self.series(key, || Series::Histogram(Arc::default())) {
            Some(Series::Histogram(buckets)) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_one_family_a_name_and_counts_buckets_upwards() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            metrics::counter!("a_total", "kind" => "x\"\\\n").increment(3);
            metrics::counter!("a_total", "kind" => "y").increment(1);
            metrics::gauge!("b").set(1.5);
            metrics::histogram!("c_seconds").record(0.002);
            metrics::histogram!("c_seconds").record(0.002_5);
            metrics::histogram!("c_seconds").record(9_999.0);
            metrics::histogram!("c_seconds").record(f64::NAN);
        });
        let text = registry.render();
        let begin = "# TYPE a_total counter\na_total{kind=\"x\\\"\\\\\\n\"} 3\n\
                     a_total{kind=\"y\"} 1\n# TYPE b gauge\nb 1.5\n# TYPE c_seconds histogram\n";
        assert!(text.starts_with(begin), "{text}");
        for line in [
            "c_seconds_bucket{le=\"0.001\"} 0\n",
            "c_seconds_bucket{le=\"0.0025\"} 2\n",
            "c_seconds_bucket{le=\"1800\"} 2\n",
            "c_seconds_bucket{le=\"+Inf\"} 3\n",
            "c_seconds_sum 9999.0045\n",
            "c_seconds_count 3\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn series_are_bounded_and_those_past_the_bound_are_counted() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            for number in 0..SERIES_MAX + 3 {
                metrics::counter!("n_total", "number" => number.to_string()).increment(1);
            }
            metrics::counter!("n_total", "number" => "0").increment(1);
        });
        let text = registry.render();
        assert_eq!(text.matches("n_total{").count(), SERIES_MAX);
        assert!(text.contains("n_total{number=\"0\"} 2\n"), "a known series goes on");
        assert!(text.contains(&format!("{REFUSED} 3\n")));
    }

    #[test]
    fn a_name_is_one_kind_of_metric() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            metrics::counter!("same").increment(1);
            metrics::gauge!("same").set(7.0);
        });
        assert!(registry.render().ends_with("# TYPE same counter\nsame 1\n"));
    }

    #[test]
    fn the_help_is_what_the_architecture_says() {
        assert!(help(REFUSED).is_some_and(|help| help.contains("series")));
        assert_eq!(help("nothing"), None);
    }
}
