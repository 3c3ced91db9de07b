//! Times of what runs per packet, per tick and per message. `cargo bench --bench hot_path`.

mod workload;

use std::hint::black_box;

use bytes::Bytes;
use confab::audio::AudioCodec;
use confab::codec::g711;
use confab::media::playout::Playout;
use confab::mixer::kernel;
use confab::mixer::limiter::Limiter;
use confab::sip::Request;
use confab::time::{Duration, Instant};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use workload::BusyShard;

fn mixing(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernel");
    for samples in [160, 960] {
        let frame: Vec<i16> = (0..samples).map(|n| (n * 31 % 20_000) as i16 - 10_000).collect();
        let mut sum = vec![0i32; samples];
        let mut wide = vec![0i32; samples];
        let mut narrow = vec![0i16; samples];
        group.throughput(Throughput::Elements(samples as u64));
        group.bench_function(format!("accumulate {samples}"), |b| {
            b.iter(|| {
                sum.fill(0);
                kernel::accumulate(black_box(&mut sum), black_box(&frame));
            });
        });
        group.bench_function(format!("subtract {samples}"), |b| {
            b.iter(|| kernel::subtract(black_box(&mut wide), &sum, &frame));
        });
        group.bench_function(format!("mean square {samples}"), |b| {
            b.iter(|| kernel::mean_square(black_box(&frame)));
        });
        group.bench_function(format!("limit, nothing to do {samples}"), |b| {
            b.iter(|| Limiter::default().process(black_box(&sum), &mut narrow));
        });
    }
    group.finish();
}

fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let pcm: Vec<i16> = (0..160).map(|n| (n * 401 % 60_000 - 30_000) as i16).collect();
    for codec in AudioCodec::ALL {
        let (mut encoded, mut decoded) = ([0u8; 160], [0i16; 160]);
        group.bench_function(format!("encode {codec:?} 20 ms"), |b| {
            b.iter(|| g711::encode(codec, black_box(&pcm), black_box(&mut encoded)));
        });
        group.bench_function(format!("decode {codec:?} 20 ms"), |b| {
            b.iter(|| g711::decode(codec, black_box(&encoded), black_box(&mut decoded)));
        });
    }
    group.finish();
}

fn jitter_buffer(c: &mut Criterion) {
    let mut playout = Playout::new(AudioCodec::Pcmu, Default::default());
    let payload = [0x55; 160];
    let mut pcm = [0; 160];
    let (mut now, mut sequence) = (Instant::from_millis(1000), 0u16);
    c.bench_function("jitter buffer, a packet in and 20 ms out", |b| {
        b.iter(|| {
            playout.receive(now, sequence, u32::from(sequence) * 160, black_box(&payload));
            playout.pull(now + Duration::from_millis(10), black_box(&mut pcm));
            now += Duration::from_millis(20);
            sequence = sequence.wrapping_add(1);
        });
    });
}

fn sip(c: &mut Criterion) {
    c.bench_function("parse INVITE", |b| {
        let invite = Bytes::from_static(workload::INVITE);
        b.iter(|| Request::parse(black_box(invite.clone())).expect("a valid INVITE"));
    });
}

fn shard(c: &mut Criterion) {
    let mut group = c.benchmark_group("shard, 20 ms of all calls");
    for (name, rooms, members, talkers) in
        [("200 rooms of 10", 200, 10, 2), ("1 room of 1000", 1, 1000, 2), ("500 connects", 500, 2, 2)]
    {
        let mut shard = BusyShard::new(rooms, members, talkers);
        for _ in 0..50 {
            black_box(shard.run_tick());
        }
        group.throughput(Throughput::Elements(shard.calls()));
        group.bench_function(name, |b| b.iter(|| black_box(shard.run_tick())));
    }
    group.finish();
}

criterion_group!(benches, mixing, codecs, jitter_buffer, sip, shard);
criterion_main!(benches);
