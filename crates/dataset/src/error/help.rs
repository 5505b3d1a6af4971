//! Remedies for errors.

use super::Error;
use crate::layout::EXTENSIONS;

impl Error {
    /// Suggests a remedy, if there is one.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::NoSplit { hint, .. } => hint.to_string(),
            Self::NoClasses { path } => format!(
                "put the images of each class into a subfolder, for example `{}`",
                path.join("ants").join("1.jpg").display()
            ),
            Self::EmptyClasses { unused, .. } => match unused.iter().find(|count| count.is_image) {
                Some(count) => count.remedy.clone(),
                None => format!(
                    "add images or remove the folder; accepted extensions: {}",
                    EXTENSIONS.join(", ")
                ),
            },
            Self::SharedFolder { .. } => {
                "remove one of the two, or replace it with other images".into()
            }
            Self::UnknownClasses { .. } => {
                "rename or remove the folder, or add the class to the training data".into()
            }
            Self::ClassName { .. } => "rename the folder".into(),
            Self::TooDeep { .. } => "move its images up, or remove it".into(),
            Self::NotAnImage { kind, .. } => kind.remedy().into(),
            Self::Unsupported { .. } => "convert it to PNG".into(),
            Self::Decode { .. } => "replace or remove the file".into(),
            Self::Truncated { .. } => "copy or download the file again, or remove it".into(),
            Self::TooManyPixels { .. } | Self::TooMuchMemory { .. } => {
                "scale the image down or remove it".into()
            }
            Self::FileTooLarge { .. } => "remove the file".into(),
            Self::Changed { .. } => "restore the file".into(),
            Self::BadImages { errors, .. } => match &errors[..] {
                [error] => return error.help(),
                _ => "replace or remove the files".into(),
            },
            Self::Plan { .. } => "compute the crop plan from the dimensions of this image".into(),
            Self::Panic { .. } => {
                "this is a bug; please report it, if possible with the image".into()
            }
            Self::Spawn(_) => {
                "use fewer workers; with 0 workers the calling thread loads the images".into()
            }
            Self::NoFolder { .. }
            | Self::Io { .. }
            | Self::Custom { .. }
            | Self::Setting { .. }
            | Self::AugmentedSize { .. }
            | Self::Grid { .. }
            | Self::Tensor(_) => return None,
        };
        Some(help)
    }
}
