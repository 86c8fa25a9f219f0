//! How a valid input is changed: a few small accidents, in the bytes of a part or in the order of the parts.

use super::Case;
use prost::encoding::encode_varint;
use rand::Rng;
use rand::rngs::StdRng;

/// Numbers at which code tends to go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0xffff,
    i32::MAX as u64,
    u32::MAX as u64,
    u32::MAX as u64 + 1,
    i64::MAX as u64,
    i64::MAX as u64 + 1,
    u64::MAX - 1,
    u64::MAX,
];

/// Parts do not grow beyond this, so that many accidents do not add up to a slow input.
const PART_BYTES_MAX: usize = 64 << 10;
const PARTS_MAX: usize = 48;

/// An input made of one of `corpus` by a few accidents.
pub fn mutated(rng: &mut StdRng, corpus: &[Case]) -> Case {
    let mut case = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..=4) {
        if rng.random_ratio(1, 6) {
            change_order(rng, &mut case, corpus);
        } else {
            change_part(rng, &mut case, corpus);
        }
    }
    case
}

fn any_part<'a>(rng: &mut StdRng, corpus: &'a [Case]) -> &'a [u8] {
    let case = &corpus[rng.random_range(0..corpus.len())];
    match case.len() {
        0 => &[],
        parts => &case[rng.random_range(0..parts)],
    }
}

fn change_order(rng: &mut StdRng, case: &mut Case, corpus: &[Case]) {
    let other = any_part(rng, corpus).to_vec();
    if case.is_empty() {
        case.push(other);
        return;
    }
    let (one, two) = (
        rng.random_range(0..case.len()),
        rng.random_range(0..case.len()),
    );
    match rng.random_range(0..5) {
        0 => case.swap(one, two),
        1 => {
            case.remove(one);
        }
        2 => case[one] = other,
        3 if case.len() < PARTS_MAX => case.insert(one, other),
        _ if case.len() < PARTS_MAX => case.insert(one, case[two].clone()),
        _ => {}
    }
}

fn change_part(rng: &mut StdRng, case: &mut Case, corpus: &[Case]) {
    if case.is_empty() {
        return;
    }
    // A crash leaves its traces at ends.
    let at = match rng.random_ratio(1, 3) {
        true => case.len() - 1,
        false => rng.random_range(0..case.len()),
    };
    let part = &mut case[at];
    let end = part.len();
    let begin = match rng.random_ratio(1, 3) {
        true => end - end.min(100),
        false => 0,
    };
    let cut = rng.random_range(begin..=end);
    let few = rng.random_range(1..=16);
    let number = NUMBERS[rng.random_range(0..NUMBERS.len())];
    match rng.random_range(0..12) {
        0..=2 => change_byte(rng, &mut part[begin..]),
        3 => overwrite(part, cut, &number.to_be_bytes()),
        4 => {
            let mut bytes = number.to_le_bytes().to_vec();
            bytes.truncate(few.min(8));
            overwrite(part, cut, &bytes);
        }
        5 => {
            let mut varint = Vec::new();
            encode_varint(number, &mut varint);
            let end = part.len().min(cut + usize::from(rng.random_bool(0.7)));
            part.splice(cut..end, varint);
        }
        6 => part.truncate(cut),
        7 => {
            let end = part.len().min(cut + few);
            part.drain(cut..end);
        }
        8 => {
            let end = part.len().min(cut + few);
            let copy = part[cut..end].to_vec();
            part.splice(cut..cut, copy);
        }
        9 => {
            let noise: Vec<u8> = (0..few).map(|_| rng.random()).collect();
            part.splice(cut..cut, noise);
        }
        10 => replace_digits(part, cut, number),
        _ => {
            let other = any_part(rng, corpus);
            let from = rng.random_range(0..=other.len());
            part.truncate(cut);
            part.extend(&other[from..]);
        }
    }
    part.truncate(PART_BYTES_MAX);
}

fn change_byte(rng: &mut StdRng, part: &mut [u8]) {
    if part.is_empty() {
        return;
    }
    let at = rng.random_range(0..part.len());
    part[at] = match rng.random_range(0..4) {
        0 => rng.random(),
        1 => [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
        _ => part[at] ^ 1 << rng.random_range(0..8),
    };
}

/// Writes a number where the next number in digits is.
fn replace_digits(part: &mut Vec<u8>, from: usize, number: u64) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = part[from..].iter().position(is_digit) else {
        return;
    };
    let start = from + start;
    let digits = part[start..]
        .iter()
        .take_while(|byte| is_digit(byte))
        .count();
    part.splice(start..start + digits, number.to_string().into_bytes());
}

fn overwrite(part: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in part[at..].iter_mut().zip(bytes) {
        *old = *new;
    }
}
