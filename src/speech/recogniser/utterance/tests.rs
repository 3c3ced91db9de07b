use super::*;

const RATE_HZ: u32 = 8000;
const FRAME: usize = 160;

/// A stream that is fed by the frame and whose pieces are collected.
struct Stream {
    cutter: Cutter,
    fed: u64,
    pieces: Vec<Piece>,
}

impl Stream {
    fn new() -> Self {
        Self { cutter: Cutter::new(RATE_HZ), fed: 0, pieces: Vec::new() }
    }

    /// Feeds `frames` frames of a constant amplitude.
    fn feed(&mut self, frames: usize, amplitude: i16) {
        for _ in 0..frames {
            let heard = Timestamp::from_micros(self.fed as i64 * 20_000);
            let frame: Vec<i16> =
                (0..FRAME).map(|n| if n % 2 == 0 { amplitude } else { -amplitude }).collect();
            self.pieces.extend(self.cutter.push(heard, &frame));
            self.fed += 1;
        }
    }

    fn wholes(&self) -> Vec<&Utterance> {
        self.pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Whole(utterance) => Some(utterance),
                _ => None,
            })
            .collect()
    }

    /// The kind and the frames of each piece.
    fn kinds(&self) -> Vec<(char, usize)> {
        let of = |piece: &Piece| match piece {
            Piece::Partial(utterance) => ('p', frames(utterance)),
            Piece::Early(utterance) => ('e', frames(utterance)),
            Piece::GoesOn => ('g', 0),
            Piece::Whole(utterance) => ('w', frames(utterance)),
        };
        self.pieces.iter().map(of).collect()
    }
}

fn frames(utterance: &Utterance) -> usize {
    utterance.samples.len() / FRAME
}

#[test]
fn an_utterance_has_a_moment_before_and_after_it_and_ends_600_ms_after_the_last_word() {
    let mut stream = Stream::new();
    stream.feed(100, 0);
    stream.feed(40, 3000);
    stream.feed(END_PAUSE - 1, 0);
    assert!(stream.wholes().is_empty(), "579 ms of silence are a pause");
    stream.feed(1, 0);
    let [utterance] = stream.wholes()[..] else { panic!("{:?}", stream.wholes().len()) };
    assert_eq!(frames(utterance), PRE_ROLL + 40 + POST_ROLL);
    assert_eq!(utterance.begins, Timestamp::from_micros((100 - 5) * 20_000));
    assert_eq!(utterance.length(), Duration::from_millis(50 * 20));
    assert_eq!(utterance.ends(), Timestamp::from_micros(145 * 20_000));
    assert!(utterance.samples[..5 * FRAME].iter().all(|&sample| sample == 0));
    assert_eq!(utterance.samples[5 * FRAME], 3000);
}

#[test]
fn a_pause_within_a_sentence_does_not_end_it() {
    let mut stream = Stream::new();
    for _ in 0..4 {
        stream.feed(30, 3000);
        stream.feed(END_PAUSE - 5, 0);
    }
    stream.feed(END_PAUSE, 0);
    assert_eq!(stream.wholes().len(), 1);
    assert_eq!(frames(stream.wholes()[0]), 4 * 30 + 3 * 25 + POST_ROLL);
}

#[test]
fn silence_noise_and_clicks_are_no_speech() {
    let mut stream = Stream::new();
    stream.feed(500, 0);
    stream.feed(500, 8);
    for _ in 0..10 {
        stream.feed(SPEECH_MIN - 1, 9000);
        stream.feed(60, 0);
    }
    assert!(stream.pieces.is_empty(), "{:?}", stream.pieces.len());
    assert_eq!(stream.cutter.clicks(), 10);
    assert!(stream.cutter.frames.len() <= PRE_ROLL, "only the pre-roll is kept");
}

#[test]
fn what_is_being_said_is_shown_once_a_second() {
    let mut stream = Stream::new();
    stream.feed(260, 3000);
    assert_eq!(stream.kinds(), [('p', 50), ('p', 100), ('p', 150), ('p', 200), ('p', 250)]);
}

#[test]
fn what_was_said_before_a_pause_is_given_out_as_the_whole_that_it_may_be() {
    let mut stream = Stream::new();
    stream.feed(30, 3000);
    stream.feed(EARLY_PAUSE - 1, 0);
    assert_eq!(stream.kinds(), [], "180 ms may be within a word");
    stream.feed(END_PAUSE - EARLY_PAUSE, 0);
    let [Piece::Early(early)] = &stream.pieces[..] else { panic!("{:?}", stream.kinds()) };
    let early = early.clone();
    stream.feed(1, 0);
    assert_eq!(stream.pieces[1], Piece::Whole(early));
}

#[test]
fn a_pause_that_was_not_the_end_is_told_as_soon_as_speech_goes_on() {
    let mut stream = Stream::new();
    stream.feed(38, 3000);
    stream.feed(EARLY_PAUSE + 3, 0);
    stream.feed(1, 3000);
    assert_eq!(stream.kinds(), [('e', 43), ('g', 0)], "the early one stands for a partial one");
    stream.feed(60, 3000);
    stream.feed(END_PAUSE, 0);
    assert_eq!(stream.kinds()[2..], [('p', 98), ('e', 117), ('w', 117)]);
}

#[test]
fn speech_without_a_pause_is_cut_at_its_quietest_place_and_nothing_is_lost() {
    let mut stream = Stream::new();
    stream.feed(400, 3000);
    stream.feed(8, 300);
    stream.feed(500, 3000);
    stream.feed(END_PAUSE, 0);
    let wholes = stream.wholes();
    assert_eq!(wholes.len(), 2);
    assert!((401..408).contains(&frames(wholes[0])), "{}", frames(wholes[0]));
    assert!(wholes.iter().all(|utterance| utterance.length() <= UTTERANCE_MAX));
    assert_eq!(wholes[0].ends(), wholes[1].begins, "the second begins where the first ends");
    let total: usize = wholes.iter().map(|utterance| frames(utterance)).sum();
    assert_eq!(total, 908 + POST_ROLL);
}

#[test]
fn an_endless_tone_is_cut_again_and_again_within_the_limit() {
    let mut stream = Stream::new();
    stream.feed(5000, 3000);
    let wholes = stream.wholes();
    assert!(wholes.len() >= 8, "{}", wholes.len());
    for pair in wholes.windows(2) {
        assert_eq!(pair[0].ends(), pair[1].begins);
    }
    assert!(stream.cutter.samples.len() <= LENGTH_MAX * FRAME);
}

#[test]
fn long_speech_ends_at_a_shorter_pause() {
    let mut stream = Stream::new();
    stream.feed(LONG, 3000);
    stream.feed(END_PAUSE_LONG, 0);
    assert_eq!(stream.wholes().len(), 1);
}

#[test]
fn the_end_of_the_stream_gives_what_was_being_said() {
    let mut stream = Stream::new();
    stream.feed(30, 3000);
    let Some(Piece::Whole(last)) = stream.cutter.finish() else { panic!("it was speech") };
    assert_eq!(frames(&last), 30);
    assert_eq!(stream.cutter.finish(), None);
    stream.feed(2, 3000);
    assert_eq!(stream.cutter.finish(), None, "40 ms are a click");
}

#[test]
fn the_pre_roll_of_the_next_utterance_is_not_heard_twice() {
    let mut stream = Stream::new();
    stream.feed(30, 3000);
    stream.feed(END_PAUSE, 0);
    stream.feed(30, 4000);
    stream.feed(END_PAUSE, 0);
    let wholes = stream.wholes();
    assert_eq!(wholes.len(), 2);
    assert!(wholes[0].ends() <= wholes[1].begins);
    assert!(wholes[1].samples.iter().all(|sample| sample.abs() != 3000));
}

#[test]
fn frames_of_a_wrong_length_are_made_to_fit() {
    let mut cutter = Cutter::new(RATE_HZ);
    for _ in 0..20 {
        cutter.push(Timestamp::from_micros(0), &[3000; 200]);
        cutter.push(Timestamp::from_micros(0), &[3000; 100]);
    }
    let Some(Piece::Whole(all)) = cutter.finish() else { panic!("it was speech") };
    assert_eq!(all.samples.len(), 40 * FRAME);
}
