//! Recordings from tap to file and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use opus_pure::{OggOpusReader, Trim};
use uuid::Uuid;

use super::*;
use crate::bridge::resource::RecordingFormat;
use crate::id::{ConferencecallId, LegId, TapId};
use crate::plane::tap::{LegSound, Tap, TapMark, TapParts, TapWriter};

const RATE: u32 = 8000;
const FRAME: usize = 160;
const ID: RecordingId = RecordingId(Uuid::from_u128(0xfeed));

/// A data folder that goes when the test does.
struct Data(PathBuf);

impl Data {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("confab-record-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A recorder without its thread, a room's writing end, and what was reported.
struct Bench {
    worker: Worker,
    writer: Option<TapWriter>,
    reports: Arc<Mutex<Vec<RecordReport>>>,
    now: Instant,
    tick: u64,
    data: Data,
}

impl Bench {
    fn new(format: RecordingFormat, tracks: bool) -> Self {
        let data = Data::new();
        let folder = Folder::open(&data.0).expect("a folder");
        let reports = Arc::new(Mutex::new(Vec::new()));
        let told = reports.clone();
        let outlet = Box::new(move |report| {
            told.lock().expect("one thread").push(report);
            Ok(())
        });
        let mut worker = Worker::new(folder, outlet, Arc::new(Counters::default()));
        let parts = TapParts { mix: true, sum: false, legs: LegSound::Spoken };
        let tap = Tap::new(TapId(1), parts, 1 << 16);
        worker.obey(RecordOrder::Start { recording: ID, format, tracks, tap: tap.clone() });
        for leg in 1..=3 {
            let conferencecall = caller(leg);
            worker.obey(RecordOrder::Name { recording: ID, leg: LegId(leg), conferencecall });
        }
        let now = Instant::from_millis(1);
        Self { worker, writer: tap.take_writer(), reports, now, tick: 1_000_000, data }
    }

    /// One tick of the room; every fifth is followed by a look of the recorder.
    fn tick(&mut self, write: impl FnOnce(&mut TapWriter)) {
        let writer = self.writer.as_mut().expect("it runs");
        writer.begin(self.tick, RATE);
        write(writer);
        assert!(writer.commit());
        self.tick += 1;
        self.now += Duration::from_millis(20);
        if self.tick.is_multiple_of(5) {
            self.worker.poll(self.now);
        }
    }

    fn stop(&mut self) -> (String, Written) {
        self.writer = None;
        self.worker.poll(self.now);
        let reports = std::mem::take(&mut *self.reports.lock().expect("one thread"));
        let started = RecordReport::Started { recording: ID };
        assert_eq!(reports.iter().filter(|report| **report == started).count(), 1);
        match reports.last() {
            Some(RecordReport::Ended { recording: ID, fault, written }) => (fault.clone(), *written),
            other => panic!("not ended: {other:?}"),
        }
    }

    fn path(&self, part: Part) -> PathBuf {
        self.worker.folder.path(ID, part)
    }
}

fn caller(leg: u64) -> ConferencecallId {
    ConferencecallId(Uuid::from_u128(u128::from(leg)))
}

/// What another program makes of a WAV file.
fn wav(path: &Path) -> Vec<i16> {
    let reader = hound::WavReader::open(path).expect("a WAV file");
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (RATE, 1));
    reader.into_samples().collect::<Result<_, _>>().expect("samples of 16 bits")
}

/// What another program makes of an Ogg/Opus file.
fn opus(path: &Path) -> Vec<i16> {
    let file = fs::File::open(path).expect("a file");
    let mut reader = OggOpusReader::new(std::io::BufReader::new(file)).expect("an Ogg/Opus file");
    let head = reader.head().clone();
    let mut decoder = head.decoder(RATE as i32).expect("a decoder");
    let mut trim = Trim::new(&head, RATE as i32, 1).expect("a trimmer");
    let mut samples = Vec::new();
    let mut pcm = [0i16; 5760];
    while let Some(packet) = reader.read_packet().expect("an undamaged file") {
        let length = decoder.decode_s16(&packet.data, FRAME, &mut pcm).expect("a packet");
        samples.extend(trim.keep(&packet, &pcm[..length]));
    }
    samples
}

/// A tone at a tick's place in time.
fn tone(tick: u64, hz: f64, amplitude: f64) -> [i16; FRAME] {
    std::array::from_fn(|n| {
        let time = (tick * FRAME as u64 + n as u64) as f64 / f64::from(RATE);
        (amplitude * (std::f64::consts::TAU * hz * time).sin()) as i16
    })
}

/// How strong a tone is in `samples`: its amplitude.
fn strength(samples: &[i16], hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let angle = std::f64::consts::TAU * hz * n as f64 / f64::from(RATE);
        re += f64::from(*sample) * angle.cos();
        im += f64::from(*sample) * angle.sin();
    }
    2.0 * (re * re + im * im).sqrt() / samples.len().max(1) as f64
}

#[test]
fn a_wav_holds_the_mix_bit_for_bit_with_silence_pauses_and_losses_in_their_time() {
    let mut bench = Bench::new(RecordingFormat::Wav, false);
    let mut expected: Vec<i16> = Vec::new();
    for tick in 0..500 {
        if tick == 300 {
            // A tenth of a second never came.
            bench.tick += 5;
            expected.extend([0; 5 * FRAME]);
        }
        let frame = [tick as i16 + 1; FRAME];
        let (at, is_silent) = (bench.tick, tick % 7 == 0);
        if tick == 100 {
            bench.worker.obey(RecordOrder::Pause { recording: ID, tick: at + 1 });
        }
        if tick == 200 {
            bench.worker.obey(RecordOrder::Resume { recording: ID, tick: at + 1 });
        }
        bench.tick(|writer| {
            if !is_silent {
                writer.mix(&frame)
            }
        });
        let is_heard = !is_silent && !(101..=200).contains(&tick);
        expected.extend(if is_heard { frame } else { [0; FRAME] });
    }
    let (fault, written) = bench.stop();
    assert_eq!(fault, "");
    assert_eq!((written.duration_ms, written.lost_ms), (10_100, 100));
    let path = bench.path(Part::Mix(RecordingFormat::Wav));
    assert_eq!(written.bytes, fs::metadata(&path).expect("a file").len());
    assert!(wav(&path) == expected, "the file is not the mix");
    assert_eq!(bench.worker.counters.lost_ticks.load(Ordering::Relaxed), 5);
}

#[test]
fn the_tracks_of_an_hour_add_up_to_the_mix_sample_for_sample() {
    let mut bench = Bench::new(RecordingFormat::Wav, true);
    const HOUR: u64 = 180_000;
    for tick in 0..HOUR {
        bench.tick(|writer| {
            // The third comes late and leaves early, the first is there from the beginning.
            for (leg, from, to) in [(1, 0, HOUR), (2, 10, HOUR), (3, 90_000, 170_000)] {
                if tick == from {
                    writer.mark(TapMark::Joined(LegId(leg)));
                }
                if tick == to {
                    writer.mark(TapMark::Left(LegId(leg)));
                }
            }
            let mut sum = [0i16; FRAME];
            for leg in 1..=3u64 {
                let speaks = tick % 1000 / 100 == leg * 2 && (leg < 3 || (90_000..170_000).contains(&tick))
                    || tick % 5000 == 4999 && leg < 3;
                if speaks {
                    let frame: [i16; FRAME] =
                        std::array::from_fn(|n| (tick as i16 ^ n as i16) / 4 + leg as i16);
                    writer.leg(LegId(leg), &frame);
                    sum.iter_mut().zip(frame).for_each(|(total, sample)| *total += sample);
                }
            }
            if sum != [0; FRAME] {
                writer.mix(&sum);
            }
        });
    }
    let (fault, written) = bench.stop();
    assert_eq!((fault.as_str(), written.duration_ms), ("", 3_600_000));
    let mut mix = wav(&bench.path(Part::Mix(RecordingFormat::Wav)));
    assert_eq!(mix.len() as u64, HOUR * FRAME as u64);
    assert!(mix.iter().any(|sample| *sample != 0));
    for leg in 1..=3 {
        let track = wav(&bench.path(Part::Track(caller(leg))));
        let ticks = if leg == 3 { 170_000 } else { HOUR };
        assert_eq!(track.len() as u64, ticks * FRAME as u64, "track {leg}");
        mix.iter_mut().zip(track).for_each(|(left, sample)| *left -= sample);
    }
    assert!(mix.iter().all(|sample| *sample == 0), "the tracks are not the mix");
    let marks = fs::read_to_string(bench.path(Part::Marks)).expect("marks");
    let marks: Vec<serde_json::Value> =
        marks.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |what: &str, leg: u64| -> Vec<u64> {
        let is_it = |mark: &&serde_json::Value| {
            mark["type"] == what && mark["conferencecall_id"] == serde_json::json!(caller(leg))
        };
        marks.iter().filter(is_it).map(|mark| mark["ms"].as_u64().expect("a time")).collect()
    };
    assert_eq!((of("join", 2), of("join", 3), of("leave", 3)), (vec![200], vec![1_800_000], vec![3_400_000]));
    assert_eq!((of("talk_start", 3)[0], of("talk_end", 3)[0]), (1_812_000, 1_814_000));
    let total: u64 = bench
        .worker
        .folder
        .files(ID)
        .expect("files")
        .iter()
        .map(|path| fs::metadata(path).expect("it").len())
        .sum();
    assert_eq!(written.bytes, total);
}

#[test]
fn opus_has_the_length_and_the_tones_of_the_mix() {
    let mut bench = Bench::new(RecordingFormat::Ogg, false);
    for tick in 0..333 {
        let frame = tone(tick, if tick < 150 { 440.0 } else { 1000.0 }, 8000.0);
        bench.tick(|writer| {
            if !(100..150).contains(&tick) {
                writer.mix(&frame)
            }
        });
    }
    let (fault, written) = bench.stop();
    assert_eq!((fault.as_str(), written.duration_ms), ("", 6_660));
    let path = bench.path(Part::Mix(RecordingFormat::Ogg));
    assert_eq!(written.bytes, fs::metadata(&path).expect("a file").len());
    let heard = opus(&path);
    assert_eq!(heard.len(), 333 * FRAME);
    let second = |n: usize| &heard[n * 8000..(n + 1) * 8000];
    assert!(strength(second(1), 440.0) > 6000.0 && strength(second(1), 1000.0) < 300.0);
    assert!(strength(second(4), 1000.0) > 6000.0 && strength(second(4), 440.0) < 300.0);
    assert!(heard[17_000..23_000].iter().all(|sample| sample.abs() < 200), "silence in its time");
}

#[test]
fn whoever_is_killed_leaves_files_that_play_and_loses_less_than_two_seconds() {
    for format in [RecordingFormat::Wav, RecordingFormat::Ogg] {
        let mut bench = Bench::new(format, true);
        bench.tick(|writer| writer.mark(TapMark::Joined(LegId(1))));
        for tick in 1..517 {
            let frame = tone(tick, 440.0, 8000.0);
            bench.tick(|writer| {
                writer.leg(LegId(1), &frame);
                writer.mix(&frame);
            });
        }
        // The process is gone: nothing is finished, and a write was cut off in the middle.
        let path = bench.path(Part::Mix(format));
        let folder = bench.worker.folder.clone();
        if format == RecordingFormat::Wav {
            assert!(wav(&path).len() > 8 * 8000, "it plays even unmended");
        }
        let bytes = fs::read(&path).expect("a file");
        for cut in [0, 1, 30, 700] {
            fs::write(&path, &bytes[..bytes.len() - cut]).expect("ours");
            let mut marks = fs::read(bench.path(Part::Marks)).expect("marks");
            marks.extend(b"{\"ms\":");
            fs::write(bench.path(Part::Marks), marks).expect("ours");
            let written = folder.mend(ID, format).expect("mended");
            assert!((8_340..10_340).contains(&written.duration_ms), "{format:?}: {written:?}");
            let heard = if format == RecordingFormat::Wav { wav(&path) } else { opus(&path) };
            assert_eq!(heard.len() as u64 / 8, written.duration_ms);
            assert!(strength(&heard[8000..16_000], 440.0) > 6000.0);
            let track = wav(&bench.path(Part::Track(caller(1))));
            assert!(track.len() > 8 * 8000);
            let marks = fs::read_to_string(bench.path(Part::Marks)).expect("text");
            assert!(marks.ends_with("}\n"), "whole lines: {marks:?}");
        }
        folder.remove(ID).expect("removed");
        assert!(folder.files(ID).expect("a folder").is_empty());
    }
}

#[test]
fn what_is_no_file_of_ours_is_told_and_what_has_no_sound_is_empty() {
    let data = Data::new();
    let folder = Folder::open(&data.0).expect("a folder");
    fs::write(folder.path(ID, Part::Mix(RecordingFormat::Wav)), b"RIFF").expect("ours");
    assert_eq!(folder.mend(ID, RecordingFormat::Wav).expect("mended").duration_ms, 0);
    assert!(wav(&folder.path(ID, Part::Mix(RecordingFormat::Wav))).is_empty());
    for nonsense in [&b""[..], b"OggS", &[7; 500]] {
        fs::write(folder.path(ID, Part::Mix(RecordingFormat::Ogg)), nonsense).expect("ours");
        assert!(folder.mend(ID, RecordingFormat::Ogg).is_err());
    }
    assert_eq!(
        folder.mend(RecordingId(Uuid::from_u128(1)), RecordingFormat::Wav).expect("nothing"),
        Written::default()
    );
}

#[test]
fn a_full_disk_ends_the_recording_with_a_cause() {
    for format in [RecordingFormat::Wav, RecordingFormat::Ogg] {
        let mut bench = Bench::new(format, false);
        std::os::unix::fs::symlink("/dev/full", bench.path(Part::Mix(format))).expect("a link");
        for tick in 0..200 {
            bench.tick(|writer| writer.mix(&tone(tick, 440.0, 8000.0)));
        }
        let reports = bench.reports.lock().expect("one thread").clone();
        let Some(RecordReport::Ended { fault, .. }) = reports.last() else { panic!("{reports:?}") };
        assert_eq!(fault, "the disk is full");
        assert_eq!(bench.worker.counters.write_failures.load(Ordering::Relaxed), 1);
        assert_eq!(bench.worker.counters.active.load(Ordering::Relaxed), 0);
        assert!(bench.data.0.exists());
    }
}

#[test]
fn tracks_are_bounded_and_counted() {
    let mut bench = Bench::new(RecordingFormat::Wav, true);
    let callers = TRACKS_MAX as u64 + 3;
    for leg in 1..=callers {
        let conferencecall = caller(leg);
        bench.worker.obey(RecordOrder::Name { recording: ID, leg: LegId(leg), conferencecall });
        bench.tick(|writer| writer.mark(TapMark::Joined(LegId(leg))));
        bench.tick(|writer| writer.mark(TapMark::Left(LegId(leg))));
    }
    bench.stop();
    assert_eq!(bench.worker.counters.tracks_refused.load(Ordering::Relaxed), 3);
}

#[test]
fn orders_that_are_not_taken_wait_and_beyond_the_limit_are_refused() {
    let counters = Arc::new(Counters::default());
    let (orders, inbox) = sync_channel(2);
    let mut inlet = RecordInlet { orders, overflow: VecDeque::new(), counters: counters.clone() };
    let pause = |tick| RecordOrder::Pause { recording: ID, tick };
    for tick in 0..OVERFLOW_MAX as u64 + 2 {
        assert_eq!(inlet.order(pause(tick)), None);
    }
    let tap = Tap::new(TapId(1), TapParts::default(), 0);
    let start = RecordOrder::Start { recording: ID, format: RecordingFormat::Wav, tracks: false, tap };
    assert!(matches!(inlet.order(start.clone()), Some(RecordReport::Ended { .. })));
    assert_eq!(counters.orders_dropped.load(Ordering::Relaxed), 1);
    for tick in 0..OVERFLOW_MAX as u64 + 2 {
        assert_eq!(inbox.try_recv().ok(), Some(pause(tick)));
        inlet.retry();
    }
    drop(inbox);
    assert!(matches!(inlet.order(start), Some(RecordReport::Ended { .. })), "the recorder has stopped");
}
