//! The settings of a run for TensorBoard's dashboard of hyperparameters
//! (tensorboard/plugins/hparams/plugin_data.proto and api.proto).

use super::protobuf::Message;
use super::seconds;
use crate::config::Config;
use crate::report::settings;

/// `DATA_TYPE_STRING`.
const STRING: u64 = 1;
/// `DATA_TYPE_FLOAT64`.
const FLOAT64: u64 = 3;
/// `STATUS_SUCCESS`.
const SUCCESS: u64 = 1;

/// The values that declare the settings and the metric, and that give the settings of the run.
pub fn start(config: &Config) -> anyhow::Result<[Message; 2]> {
    let metric = Message::default().text(2, "accuracy/val");
    let mut experiment = Message::default().double(3, seconds());
    let mut session = Message::default();
    for (name, value) in settings::settings(config)? {
        let number = value
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite());
        let (kind, content) = match number {
            Some(number) => (FLOAT64, Message::default().double(2, number)),
            None => (STRING, Message::default().text(3, &value)),
        };
        let info = Message::default().text(1, &name).number(4, kind);
        experiment = experiment.message(4, info);
        let entry = Message::default().text(1, &name).message(2, content);
        session = session.message(1, entry);
    }
    let metric = Message::default().message(1, metric);
    let experiment = experiment.message(5, metric);
    let session = session.double(5, seconds());
    Ok([
        value(
            "_hparams_/experiment",
            Message::default().message(2, experiment),
        ),
        value(
            "_hparams_/session_start_info",
            Message::default().message(3, session),
        ),
    ])
}

/// The value that says that the run succeeded.
pub fn end() -> Message {
    let end = Message::default().number(1, SUCCESS).double(2, seconds());
    value(
        "_hparams_/session_end_info",
        Message::default().message(4, end),
    )
}

fn value(tag: &str, data: Message) -> Message {
    let plugin = Message::default().text(1, "hparams").message(2, data);
    let metadata = Message::default().message(1, plugin);
    Message::default().text(1, tag).message(9, metadata)
}
