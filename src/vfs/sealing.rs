//! Secrets as metadata keeps them: sealed with a key that is no part of the metadata.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

use crate::env::Clock;
use crate::error::{Error, Result};
use crate::types::KeyId;

/// Bytes of the key that seals.
pub const SEALING_KEY_LEN: usize = 32;
/// Random, and long enough never to come twice by chance; draft-irtf-cfrg-xchacha.
const NONCE_LEN: usize = 24;

/// Seals and opens secrets: `nonce (24) | ciphertext | tag (16)`, bound to the id of their key.
pub(super) struct Sealing(XChaCha20Poly1305);

impl Sealing {
    pub fn new(key: &[u8; SEALING_KEY_LEN]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    pub fn seal(&self, clock: &dyn Clock, id: KeyId, secret: &str) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        fill(clock, &mut nonce);
        let payload = Payload { msg: secret.as_bytes(), aad: id.as_str().as_bytes() };
        let sealed = self.0.encrypt(&nonce.into(), payload);
        let sealed = sealed.map_err(|_| Error::invalid("the secret is too long to be sealed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub fn open(&self, id: KeyId, sealed: &[u8]) -> Result<String> {
        let broken = || {
            Error::Store(format!(
                "the secret of access key {id} was sealed with another key than the one this node \
                 has: bring the right secrets.key back, or give the access key a new secret with \
                 `bucketfs key rotate`"
            ))
        };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let payload = Payload { msg: sealed, aad: id.as_str().as_bytes() };
        let secret = self.0.decrypt(nonce.into(), payload).map_err(|_| broken())?;
        String::from_utf8(secret).map_err(|_| broken())
    }
}

/// Fills with random bytes.
pub(super) fn fill(clock: &dyn Clock, bytes: &mut [u8]) {
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&clock.random().to_ne_bytes()[..part.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemClock;

    #[test]
    fn a_secret_opens_for_its_key_and_no_other() {
        let clock = SystemClock::new();
        let id = |text: &str| text.parse::<KeyId>().unwrap();
        let (one, two) = (id("BFAAAAAAAAAAAAAAAAAA"), id("BFBBBBBBBBBBBBBBBBBB"));
        let sealing = Sealing::new(&[7; SEALING_KEY_LEN]);
        let mut sealed = sealing.seal(&clock, one, "hush").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"hush"));
        assert_ne!(sealed, sealing.seal(&clock, one, "hush").unwrap());
        assert_eq!(sealing.open(one, &sealed).unwrap(), "hush");
        assert!(sealing.open(two, &sealed).is_err(), "bound to the id");
        assert!(Sealing::new(&[8; SEALING_KEY_LEN]).open(one, &sealed).is_err());
        for len in 0..sealed.len() {
            assert!(sealing.open(one, &sealed[..len]).is_err());
        }
        sealed[30] ^= 1;
        assert!(matches!(sealing.open(one, &sealed), Err(Error::Store(_))));
    }
}
