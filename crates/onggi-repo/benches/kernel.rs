//! Throughput of the kernels on one thread, in MB/s (10^6 bytes): `cargo bench -p onggi-repo --bench kernel`.

use onggi_repo::{
    format::{BlobId, BlobKind, ChunkSizes, Chunker, Compression, MasterKey, blob, seal},
    kernel::{cipher::Keys, hash, scan::Scanner},
};
use std::{
    hint::black_box,
    io::Write,
    time::{Duration, Instant},
};

/// Short enough that some passes run undisturbed on a busy machine.
const LENGTH: usize = 4 << 20;
const CHUNK: usize = 1 << 20;

fn main() -> std::io::Result<()> {
    let polynomial = "3cbfb22b6022a9".parse().expect("known polynomial");
    let keys = Keys::new(&[1; 32], &[2; 16], &[3; 16]);
    let master = MasterKey::from_random(&[7; 64]);
    let noise: Vec<u8> = (0..LENGTH / 32).flat_map(|i| hash::sha256(&i.to_le_bytes())).collect();
    let zeros = vec![0; LENGTH];
    let scanner = Scanner::new(polynomial, 1 << 20);
    let chunker = Chunker::new(polynomial, ChunkSizes::DEFAULT);
    let (mut buffer, mut out) = (noise.clone(), Vec::new());

    report("scan, noise", &mut || scanner.scan(black_box(&noise), &mut Vec::new()))?;
    report("scan, zeros", &mut || scanner.scan(black_box(&zeros), &mut Vec::new()))?;
    let cut = |bytes: &[u8]| {
        let (mut cutter, mut cuts) = (chunker.cutter(), Vec::new());
        bytes.chunks(2 << 20).for_each(|piece| cutter.feed(piece, &mut cuts));
        black_box(cuts);
    };
    report("cutter, noise", &mut || cut(black_box(&noise)))?;
    report("cutter, zeros", &mut || cut(black_box(&zeros)))?;
    report("sha-256", &mut || noise.chunks(CHUNK).for_each(|chunk| _ = black_box(hash::sha256(chunk))))?;
    report("poly1305", &mut || {
        noise.chunks(CHUNK).for_each(|chunk| _ = black_box(keys.authenticate(&[9; 16], chunk)))
    })?;
    report("aes-ctr + poly1305", &mut || {
        buffer.chunks_mut(CHUNK).for_each(|chunk| _ = black_box(keys.encrypt(&[9; 16], chunk)));
    })?;
    report("seal", &mut || {
        for chunk in noise.chunks(CHUNK) {
            out.clear();
            seal::seal(&master, [9; 16], chunk, &mut out);
        }
    })?;
    let sealed: Vec<_> = noise
        .chunks(CHUNK)
        .map(|chunk| (BlobId::of(chunk), blob::encode_blob(&master, [9; 16], BlobKind::Data, chunk, Compression::Off)))
        .collect();
    let (mut scratch, mut plaintext) = (Vec::new(), Vec::new());
    report("open + sha-256", &mut || {
        for (id, blob) in &sealed {
            blob::decode_blob_into(&master, &blob.bytes, None, *id, &mut scratch, &mut plaintext).expect("just sealed");
        }
    })
}

/// Runs for half a second and prints the best pass.
fn report(name: &str, run: &mut dyn FnMut()) -> std::io::Result<()> {
    let (begun, mut best) = (Instant::now(), Duration::MAX);
    while begun.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    let rate = LENGTH as f64 / best.as_secs_f64() / 1e6;
    writeln!(std::io::stdout(), "{name:<24}{rate:>8.0} MB/s")
}
