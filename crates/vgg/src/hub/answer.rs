//! What the hub answered, in words, with what to do next.

use hf_hub::api::sync::{ApiError, ApiRepo};

use super::Address;

pub(super) const ADVICE: &str = "Give weights you have with --weights FILE, a mirror with HF_ENDPOINT, \
    or train on the built-in sample, which needs no download";

/// How a file may be called that holds weights.
const WEIGHTS: [&str; 4] = [".safetensors", ".pth", ".pt", ".bin"];

/// The status that a request was refused with, through hf-hub's repetitions.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::TooManyRetries(error) => status(error),
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

fn innermost(error: &ApiError) -> &ApiError {
    match error {
        ApiError::TooManyRetries(error) => innermost(error),
        _ => error,
    }
}

/// Why `address` could not be had; a file that is not there is answered with those that are.
pub(super) fn explain(
    error: &ApiError,
    address: &Address,
    repo: &ApiRepo,
    endpoint: &str,
) -> String {
    match status(error) {
        Some(status @ (401 | 403)) => format!(
            "{endpoint} refused it ({status}): the repository is misspelt, private or gated. \
             Check the name, accept its terms there, and set HF_TOKEN. {ADVICE}"
        ),
        Some(404) => match repo.info() {
            Ok(info) => {
                let names = info.siblings.into_iter().map(|file| file.rfilename);
                let weights = names.filter(|name| WEIGHTS.iter().any(|end| name.ends_with(end)));
                let weights: Vec<String> = weights.take(20).collect();
                let Address {
                    repository, file, ..
                } = address;
                if weights.is_empty() {
                    format!("{repository} has no {file} (404) and no other weights. {ADVICE}")
                } else {
                    let first = &weights[0];
                    let all = weights.join(", ");
                    format!(
                        "{repository} has no {file} (404). It has {all}: name one, as in hf:{repository}/{first}"
                    )
                }
            }
            Err(_) => format!(
                "{endpoint} does not have it (404): check the name and the revision. {ADVICE}"
            ),
        },
        Some(status) => format!("{endpoint} answered {status}; try again later. {ADVICE}"),
        None => match innermost(error) {
            error @ (ApiError::MissingHeader(_) | ApiError::InvalidHeader(_)) => format!(
                "{endpoint} answered, but not as a hub does ({error}); check HF_ENDPOINT. {ADVICE}"
            ),
            error => format!("{endpoint} could not be reached or broke off ({error}). {ADVICE}"),
        },
    }
}
