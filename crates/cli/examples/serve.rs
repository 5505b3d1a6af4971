//! Classifies uploaded images: handlers turn bytes into an answer, and share one model.
//!
//! ```sh
//! cargo run -p cli --example serve
//! ```
//!
//! One call of the classifier uses all cores, so calls from several threads are correct but not
//! faster. The handlers therefore only decode. A worker thread classifies all images that are
//! waiting in one batch.
//!
//! In an async server, the handler awaits its answer: use a oneshot channel of the runtime for
//! `reply`, and decode on its threads for blocking work, such as tokio's `spawn_blocking`.

use std::io::Cursor;
use std::sync::{Arc, mpsc};
use std::{iter, thread};

use anyhow::Context;
use candle_core::{Device, Tensor};
use cli::Classifier;
use cli::non_finite_logit::NonFiniteLogit;
use dataset::DecodeOptions;
use sample::{PRETRAINING, SEED, Split};

/// Maximum number of images in a batch.
const MAX_BATCH: usize = 8;

/// An image that waits for its class probabilities.
struct Request {
    image: Tensor,
    reply: mpsc::Sender<Result<Vec<f32>, NonFiniteLogit>>,
}

#[derive(Clone)]
struct Server {
    classifier: Arc<Classifier>,
    requests: mpsc::Sender<Request>,
}

impl Server {
    /// Starts the worker, which stops when all handlers are dropped.
    fn start(classifier: Classifier) -> anyhow::Result<Self> {
        classifier.warm_up()?;
        let classifier = Arc::new(classifier);
        let (requests, waiting) = mpsc::channel();
        let worker = Arc::clone(&classifier);
        thread::spawn(move || classify(&worker, &waiting));
        Ok(Self {
            classifier,
            requests,
        })
    }

    /// Handles one upload: returns the most likely class and its probability.
    fn handle(&self, bytes: &[u8]) -> anyhow::Result<(&str, f32)> {
        let image = self
            .classifier
            .read_bytes(bytes, &DecodeOptions::default())?;
        let (reply, answer) = mpsc::channel();
        let request = Request { image, reply };
        self.requests.send(request).context("the worker stopped")?;
        let probabilities = answer.recv().context("the batch failed")??;
        let classes = self.classifier.classes().iter().map(String::as_str);
        let best = classes
            .zip(probabilities)
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        best.context("the model has no classes")
    }
}

/// Classifies waiting images until there are no more handlers.
fn classify(classifier: &Classifier, waiting: &mpsc::Receiver<Request>) {
    while let Ok(first) = waiting.recv() {
        let rest = waiting.try_iter().take(MAX_BATCH - 1);
        let batch: Vec<Request> = iter::once(first).chain(rest).collect();
        let images: Vec<&Tensor> = batch.iter().map(|request| &request.image).collect();
        match classifier.probabilities(&images) {
            Ok(rows) => {
                for (request, row) in batch.iter().zip(rows) {
                    // If the handler has ended, no one needs the answer.
                    let _ = request.reply.send(row);
                }
            }
            Err(error) => eprintln!("cannot classify a batch: {error:#}"),
        }
    }
}

fn main() -> anyhow::Result<()> {
    // A model file, here that of the built-in sample, which knows 38 classes of drawings.
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../data/sample_backbone.safetensors"
    );
    let server = Server::start(Classifier::open(model.as_ref(), &Device::Cpu)?)?;
    let uploads = PRETRAINING.iter().map(|class| {
        let mut png = Cursor::new(Vec::new());
        let image = class.image(SEED, Split::Val, 1000);
        image.write_to(&mut png, image::ImageFormat::Png)?;
        Ok((class.name(), png.into_inner()))
    });
    let uploads: Vec<(&str, Vec<u8>)> = uploads.collect::<anyhow::Result<_>>()?;

    let correct = thread::scope(|scope| {
        let handle = |(name, bytes)| {
            let server = server.clone();
            scope.spawn(move || -> anyhow::Result<bool> {
                let (class, probability) = server.handle(bytes)?;
                println!("{name}: {class}, {:.1} %", 100.0 * probability);
                Ok(class == name)
            })
        };
        let uploads = uploads
            .iter()
            .map(|(name, bytes)| (*name, bytes.as_slice()));
        let handlers: Vec<_> = uploads.map(handle).collect();
        let join = |handler: thread::ScopedJoinHandle<'_, _>| handler.join().expect("no panic");
        handlers
            .into_iter()
            .map(join)
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let correct = correct.into_iter().filter(|correct| *correct).count();
    println!("{correct} of {} correct", uploads.len());
    assert!(correct > 30);
    assert!(server.handle(b"no image").is_err());
    Ok(())
}
