//! The command lines of `confab call` and `confab load`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::expect::Expectation;
use super::network::NetworkOptions;
use super::tone::TONES;
use crate::audio::AudioCodec;

/// Microseconds between two moments at which phones with times of their own may send: 2000 calls
/// fall on one each.
const EXACT_SLOT_US: u64 = 10;

/// The codecs a phone of ours speaks, as named on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CodecChoice {
    /// G.711 µ-law.
    #[default]
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl From<CodecChoice> for AudioCodec {
    fn from(choice: CodecChoice) -> AudioCodec {
        match choice {
            CodecChoice::Pcmu => AudioCodec::Pcmu,
            CodecChoice::Pcma => AudioCodec::Pcma,
        }
    }
}

/// How SIP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TransportChoice {
    /// Datagrams.
    #[default]
    Udp,
    /// A connection.
    Tcp,
}

/// A small real SIP phone: dials, speaks, listens, and tells how it sounds.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  confab call sip:direct.6f1c…@127.0.0.1              be silent and listen, until ctrl-C
  confab call sip:direct.6f1c…@127.0.0.1 --tone 440   speak a tone; call again from another terminal to hear it
  confab call sip:direct.6f1c…@host --play speech.wav --record heard.wav --for 15s
  confab call sip:direct.6f1c…@sip.voipbin.net --proxy 127.0.0.1:5060

The exit code is 0 when the call was answered and ended as asked, 1 when it was refused or not
answered, 2 when it was cut off, 3 when it could not be made at all.")]
pub struct CallOptions {
    /// The URI to dial, such as sip:direct.HASH@HOST:5060; "sip:" and the port may be left out
    pub uri: String,
    /// Speak this WAV file (16-bit PCM of any rate, mono or stereo), then be silent
    #[arg(long, value_name = "FILE")]
    pub play: Option<PathBuf>,
    /// Write what is heard to this WAV file (8 kHz, 16-bit, mono), on our own clock
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Hang up this long after the answer, such as 10s, 500ms or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Speak a tone of this frequency
    #[arg(long, value_name = "HZ", value_parser = parse_tone, conflicts_with_all = ["play", "echo"])]
    pub tone: Option<f64>,
    /// Speak back what is heard
    #[arg(long, conflicts_with = "play")]
    pub echo: bool,
    /// Press these keys (0-9 * # A-D), one after the other, a second after the answer
    #[arg(long, value_name = "DIGITS", value_parser = parse_digits)]
    pub dtmf: Option<String>,
    /// The codec to offer
    #[arg(long, value_enum, default_value_t)]
    pub codec: CodecChoice,
    /// How SIP travels
    #[arg(long, value_enum, default_value_t)]
    pub transport: TransportChoice,
    /// Send requests to this host and port whatever the URI says
    #[arg(long, value_name = "HOST[:PORT]")]
    pub proxy: Option<String>,
    /// Our own address, for SIP and media (default: the one the system sends from)
    #[arg(long, value_name = "ADDR")]
    pub local: Option<IpAddr>,
    /// Put a bad network between us and the room: loss=PERCENT,jitter=MIN-MAX,seed=N, applied to
    /// the packets we send
    #[arg(long, value_name = "MODEL")]
    pub network: Option<NetworkOptions>,
    /// Give up when nobody answers within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    pub ring: Duration,
    /// No live line, only the result
    #[arg(long, short)]
    pub quiet: bool,
}

/// Many phones at once: a source of load that measures what comes back.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  confab load sip:direct.6f1c…@127.0.0.1 --calls 100 --talkers 2 --for 10
  confab load --uris rooms.txt --calls 2000 --talkers 2 --pid $(pidof confab) --json
  confab load sip:echo@127.0.0.1:6060 --calls 2000        against `confab floor --sip 127.0.0.1:6060`
  confab load … --expect 'packets_back>=0.999' --expect 'latency_ms.p50<=12'

Calls are dealt over the URIs, each of which is a room; the first of a room are its talkers. Every
call sends a packet every --ptime; talkers send tones and the others silence. What is measured, by its
name in --json (all in the time after everyone has answered, unless it says otherwise):
  calls, answered, failed{status}, ended_early    calls asked for, answered, refused by status, ended by the server
  setup_ms{p50,p99,max}        from the first INVITE to its 200, of all calls
  packets_sent, packets_expected, packets_received, packets_back    packets_back is received / expected
  loss, reordered, duplicated  by RTP sequence numbers
  gap_ms{p50,p99,max}          between the packets of a call as they arrive
  setup_gap_ms{p50,p99,max}    the same while calls are being set up
  heard{listeners,expected,missing,wrong,echo}    who heard whom, by tones late in the run
  latency_ms{p50,p95,max,count,missed}    added by the server, by turns of phase in the tones
  server{cpu_us_per_call_second,user_s,system_s,threads{name},rss_before_kib,rss_kib,rss_peak_kib,kib_per_call}    of --pid
  load{cpu_us_per_call_second,user_s,system_s,backend,slot_ms,slot_late_ms{p50,p99,max}}    of ourselves; arrivals are known to a slot
The exit code is 0 when every --expect holds, 1 when one does not, 3 when the run could not be made.")]
pub struct LoadOptions {
    /// The rooms to dial, such as sip:direct.HASH@HOST:5060
    #[arg(required_unless_present = "uris")]
    pub uri: Vec<String>,
    /// Read more rooms from this file, one URI a line
    #[arg(long, value_name = "FILE")]
    pub uris: Option<PathBuf>,
    /// How many calls to make
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub calls: u32,
    /// Use only the first M rooms
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: Option<u32>,
    /// How many calls of each room speak a tone
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=TONES as i64))]
    pub talkers: u32,
    /// Seconds to measure, after everyone has answered
    #[arg(long = "for", value_name = "SECONDS", default_value = "10", value_parser = parse_measured)]
    pub duration: Duration,
    /// New calls per second; also the rate at which they hang up
    #[arg(long, value_name = "R", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub cps: u32,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Measure CPU and memory of this process too
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Milliseconds of audio per packet
    #[arg(long, value_name = "MS", default_value = "20", value_parser = parse_ptime)]
    pub ptime: u16,
    /// The codec to offer
    #[arg(long, value_enum, default_value_t)]
    pub codec: CodecChoice,
    /// The ports to receive RTP on (default: any the system gives)
    #[arg(long, value_name = "A-B", value_parser = parse_ports)]
    pub rtp_ports: Option<RangeInclusive<u16>>,
    /// Send requests to this host and port whatever the URIs say
    #[arg(long, value_name = "HOST[:PORT]")]
    pub proxy: Option<String>,
    /// Our own address, for SIP and media (default: the one the system sends from)
    #[arg(long, value_name = "ADDR")]
    pub local: Option<IpAddr>,
    /// Spread SIP over this many sockets
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub sip_sockets: u16,
    /// The seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Lose this percentage of the packets we send
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = parse_percent)]
    pub loss: f64,
    /// Delay each packet we send by 0 to this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub jitter: u64,
    /// A condition of success, such as 'packets_back>=0.999'; may be given several times
    #[arg(long, value_name = "CONDITION")]
    pub expect: Vec<Expectation>,
    /// The server echoes (as `confab floor` does): everyone hears itself. Noticed without this, too
    #[arg(long)]
    pub echo_server: bool,
    /// Microseconds between the moments at which we send and look for arrivals: finer is truer to
    /// the arrival times and to real traffic, coarser is cheaper for us
    #[arg(long, value_name = "US", default_value = "500", value_parser = parse_slot)]
    pub slot: u64,
    /// Send every packet at its own time, as unrelated phones do, instead of in slots, and take times
    /// of arrival from the kernel: truest to real traffic, but it never sleeps and wants a processor
    /// for itself
    #[arg(long, conflicts_with_all = ["slot", "epoll"])]
    pub exact: bool,
    /// Drive our sockets by epoll even where io_uring is allowed
    #[arg(long)]
    pub epoll: bool,
    /// No progress bar
    #[arg(long, short)]
    pub quiet: bool,
}

impl LoadOptions {
    /// Microseconds between the moments at which something is sent.
    pub fn slot_us(&self) -> u64 {
        if self.exact { EXACT_SLOT_US } else { self.slot }
    }
}

/// A time such as `10`, `10s`, `500ms` or `2m`; a bare number is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a time such as 10s, 500ms or 2m".to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "write a time such as 10s, 500ms or 2m".to_owned())?;
    Duration::try_from_secs_f64(seconds * seconds_per_unit).map_err(|_| "that is too long".to_owned())
}

/// The measured time: long enough for a sample of everyone's sound after a second of marks.
fn parse_measured(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    let fits = (Duration::from_secs(2)..=Duration::from_secs(86_400)).contains(&duration);
    if fits { Ok(duration) } else { Err("measure for 2 seconds to a day".to_owned()) }
}

/// A packet length that phones use.
fn parse_ptime(text: &str) -> Result<u16, String> {
    let ptime = text.parse::<u16>().ok().filter(|ms| (10..=60).contains(ms) && ms % 10 == 0);
    ptime.ok_or_else(|| "choose 10, 20, 30, 40, 50 or 60 milliseconds".to_owned())
}

/// A slot that divides every packet length.
fn parse_slot(text: &str) -> Result<u64, String> {
    let slot = text.parse::<u64>().ok().filter(|us| [50, 100, 250, 500, 1000, 2000].contains(us));
    slot.ok_or_else(|| "choose 50, 100, 250, 500, 1000 or 2000 microseconds".to_owned())
}

/// A frequency that G.711 can carry.
fn parse_tone(text: &str) -> Result<f64, String> {
    let hz = text.trim_end_matches("Hz").trim_end_matches("hz").parse::<f64>().ok();
    hz.filter(|hz| (20.0..=3900.0).contains(hz)).ok_or_else(|| "choose 20 to 3900 Hz".to_owned())
}

/// Keys of a telephone.
fn parse_digits(text: &str) -> Result<String, String> {
    let digits = text.to_ascii_uppercase();
    let known = !digits.is_empty() && digits.chars().all(|c| matches!(c, '0'..='9' | '*' | '#' | 'A'..='D'));
    if known && digits.len() <= 64 { Ok(digits) } else { Err("choose up to 64 of 0-9 * # A-D".to_owned()) }
}

/// A part of a hundred.
fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').parse::<f64>().ok();
    percent.filter(|p| (0.0..=100.0).contains(p)).ok_or_else(|| "choose 0 to 100".to_owned())
}

/// A range of ports.
fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parsed =
        text.split_once('-').and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse::<u16>().ok()?)));
    let (first, last) = parsed.ok_or_else(|| "write two ports, such as 40000-50000".to_owned())?;
    if first >= 1024 && first < last { Ok(first..=last) } else { Err("ports go from 1024 up".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Call {
        #[command(flatten)]
        options: CallOptions,
    }

    #[derive(Debug, Parser)]
    struct Load {
        #[command(flatten)]
        options: LoadOptions,
    }

    fn call(arguments: &[&str]) -> Option<CallOptions> {
        let arguments = ["call"].iter().chain(arguments);
        Call::try_parse_from(arguments).ok().map(|call| call.options)
    }

    fn load(arguments: &[&str]) -> Option<LoadOptions> {
        let arguments = ["load"].iter().chain(arguments);
        Load::try_parse_from(arguments).ok().map(|load| load.options)
    }

    #[test]
    fn a_call_needs_only_a_uri() {
        let options = call(&["sip:a@b"]).expect("a URI is enough");
        assert_eq!(
            (options.codec, options.transport, options.duration),
            (CodecChoice::Pcmu, TransportChoice::Udp, None)
        );
        assert!(call(&[]).is_none());
    }

    #[test]
    fn a_call_takes_what_the_help_shows() {
        let options = call(&[
            "a@b",
            "--tone",
            "440",
            "--record",
            "r.wav",
            "--for",
            "1.5s",
            "--dtmf",
            "12#d",
            "--codec",
            "pcma",
            "--transport",
            "tcp",
            "--network",
            "loss=3,jitter=0-80,seed=2",
            "--proxy",
            "127.0.0.1",
        ]);
        let options = options.expect("all of them");
        assert_eq!(options.duration, Some(Duration::from_millis(1500)));
        assert_eq!(options.dtmf.as_deref(), Some("12#D"));
        assert_eq!(AudioCodec::from(options.codec), AudioCodec::Pcma);
        assert_eq!(options.network.map(|n| n.delay_max_ms), Some(80));
    }

    #[test]
    fn a_call_refuses_what_cannot_be() {
        for wrong in [
            ["a@b", "--tone", "9000"],
            ["a@b", "--dtmf", "1x"],
            ["a@b", "--for", "soon"],
            ["a@b", "--codec", "g729"],
            ["a@b", "--network", "loss=200"],
        ] {
            assert!(call(&wrong).is_none(), "{wrong:?}");
        }
        assert!(call(&["a@b", "--tone", "440", "--echo"]).is_none(), "one voice at a time");
    }

    #[test]
    fn load_needs_rooms_and_fills_in_the_rest() {
        assert!(load(&[]).is_none());
        let options = load(&["sip:a@b", "sip:c@d"]).expect("rooms are enough");
        assert_eq!((options.calls, options.talkers, options.ptime, options.cps), (10, 1, 20, 200));
        assert_eq!(options.duration, Duration::from_secs(10));
        assert!(load(&["--uris", "rooms.txt"]).is_some());
    }

    #[test]
    fn load_takes_limits_seriously() {
        for wrong in [
            ["a@b", "--calls", "0"],
            ["a@b", "--calls", "20000"],
            ["a@b", "--talkers", "31"],
            ["a@b", "--ptime", "25"],
            ["a@b", "--for", "1"],
            ["a@b", "--slot", "300"],
            ["a@b", "--rtp-ports", "50000-40000"],
            ["a@b", "--expect", "nonsense"],
            ["a@b", "--loss", "101"],
        ] {
            assert!(load(&wrong).is_none(), "{wrong:?}");
        }
        let options =
            load(&["a@b", "--expect", "answered==10", "--expect", "loss<0.01", "--rtp-ports", "40000-50000"]);
        let options = options.expect("all of them");
        assert_eq!((options.expect.len(), options.rtp_ports), (2, Some(40_000..=50_000)));
    }

    #[test]
    fn times_are_read_with_their_units() {
        for (text, ms) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1.5s", 1500),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "10x", "-1", "1e99h", "1..2"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
