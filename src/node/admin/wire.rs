//! What goes over the socket besides the answers themselves.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Why a request was refused, in the words of [`Error`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { error: error.to_string() }
    }
}

/// The asker shows the text; the word itself has done its work where it was made.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Store(failure.error)
    }
}

/// One line of the answer to a request that takes long.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<P, A> {
    Progress(P),
    Answer(A),
    Failure(Failure),
}
