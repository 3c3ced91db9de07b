//! What an operator sees: log lines on standard error and metrics for Prometheus.

pub mod histogram;
pub mod log;
pub mod metrics;

pub use histogram::{Histogram, HistogramReading};
pub use metrics::{Exposition, Metrics};
