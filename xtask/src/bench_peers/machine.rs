//! Description of the machine and the software versions of a benchmark run.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fmt::{self, Display};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// CPU flags by which kernels are selected, as named by Linux.
const FEATURES: [&str; 4] = ["avx2", "fma", "avx512f", "amx_tile"];

/// A machine and its software versions. `Display` writes a Markdown list.
#[derive(Clone, Debug)]
pub struct Machine {
    date: String,
    processor: String,
    memory_bytes: u64,
    cores: usize,
    threads: usize,
    gpu: Option<String>,
    commit: String,
    versions: Vec<(String, String)>,
}

impl Machine {
    /// Describes the current machine and the checkout in `root`. `peers` are the versions of the
    /// Python packages.
    ///
    /// # Errors
    ///
    /// Returns an error if `/proc` cannot be read. The peak memory comes from there as well, so
    /// Linux is required.
    pub fn detect(root: &Path, threads: usize, peers: Map<String, Value>) -> Result<Self> {
        let read = |path: &str| {
            fs::read_to_string(path)
                .with_context(|| format!("cannot read {path}; bench-peers needs Linux"))
        };
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("the system clock is before 1970")?
            .as_secs();
        let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
        let mut versions = vec![
            ("rustc".to_owned(), rustc(root)),
            ("candle".to_owned(), locked_version(&lock, "candle-core")),
        ];
        versions.extend(peers.into_iter().map(|(name, version)| {
            let version = version.as_str().unwrap_or_default().to_owned();
            (name, version)
        }));
        Ok(Self {
            date: date(seconds / 86_400),
            processor: processor(&read("/proc/cpuinfo")?),
            memory_bytes: memory(&read("/proc/meminfo")?),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads,
            gpu: None,
            commit: commit(root),
            versions,
        })
    }

    /// Adds the first GPU that `nvidia-smi` lists.
    pub fn with_gpu(self) -> Self {
        let output = Command::new("nvidia-smi")
            .args([
                "--query-gpu=name,driver_version,memory.total",
                "--format=csv,noheader",
            ])
            .output();
        let gpus = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let first = gpus
            .ok()
            .and_then(|gpus| gpus.lines().next().map(str::to_owned));
        Self {
            gpu: Some(first.unwrap_or_else(|| "unknown".to_owned())),
            ..self
        }
    }

    /// File name for this run, without an extension: the date, then the GPU if there is one, or
    /// else the processor.
    pub fn file_stem(&self) -> String {
        let gpu = self.gpu.as_deref().and_then(|gpu| gpu.split(',').next());
        let processor = gpu.unwrap_or(&self.processor).to_lowercase();
        let words = processor
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !["", "r", "tm", "cpu", "processor", "family", "model"].contains(word))
            .filter(|word| !FEATURES.contains(word) && *word != "amx" && *word != "tile");
        let words: Vec<&str> = std::iter::once(self.date.as_str()).chain(words).collect();
        words.join("-")
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "- date: {}", self.date)?;
        writeln!(f, "- processor: {}", self.processor)?;
        if let Some(gpu) = &self.gpu {
            writeln!(f, "- GPU: {gpu}")?;
        }
        writeln!(
            f,
            "- threads: {} on {} cores; memory: {:.0} GB",
            self.threads,
            self.cores,
            self.memory_bytes as f64 / 1e9
        )?;
        writeln!(f, "- commit: {}", self.commit)?;
        let versions = self
            .versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"));
        let versions: Vec<String> = versions.collect();
        writeln!(f, "- versions: {}", versions.join(", "))
    }
}

/// The processor's name with its family, model and flags. Virtual machines may disguise the name
/// but still report the family, model and flags.
fn processor(cpuinfo: &str) -> String {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let Some(name) = field("model name") else {
        return format!("unknown, {}", std::env::consts::ARCH);
    };
    let flags = field("flags").unwrap_or_default();
    let features: Vec<&str> = FEATURES
        .into_iter()
        .filter(|feature| flags.split_whitespace().any(|flag| flag == *feature))
        .collect();
    format!(
        "{name} (family {}, model {}; {})",
        field("cpu family").unwrap_or("?"),
        field("model").unwrap_or("?"),
        features.join(" ")
    )
}

/// Total memory in bytes, from the text of `/proc/meminfo`.
fn memory(meminfo: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// The version of `package` in `Cargo.lock`.
fn locked_version(lock: &str, package: &str) -> String {
    let mut lines = lock.lines();
    let _ = lines.find(|line| *line == format!("name = \"{package}\""));
    let version = lines.next().and_then(|line| line.split('"').nth(1));
    version.unwrap_or("unknown").to_owned()
}

fn rustc(root: &Path) -> String {
    let version = output_of("rustc", &["--version"], root);
    version
        .strip_prefix("rustc ")
        .unwrap_or(&version)
        .to_owned()
}

fn commit(root: &Path) -> String {
    let commit = output_of("git", &["rev-parse", "--short=12", "HEAD"], root);
    let changes = output_of(
        "git",
        &["status", "--porcelain", "--untracked-files=no"],
        root,
    );
    match changes.as_str() {
        "" | "unknown" => commit,
        _ => commit + ", with uncommitted changes",
    }
}

/// Standard output of a program, or `unknown` if it fails.
fn output_of(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

/// Formats a number of days since 1 January 1970 as `YYYY-MM-DD`.
fn date(mut days: u64) -> String {
    let is_leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_formatted_as_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_322, "2000-12-31"),
            (20_781, "2026-11-24"),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn the_processor_has_family_model_and_flags() {
        let cpuinfo = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC(TM) CPU\n\
                       flags\t\t: sse avx2 avx512f avx512vl fma\n";
        assert_eq!(
            processor(cpuinfo),
            "AMD EPYC(TM) CPU (family 25, model 17; avx2 fma avx512f)"
        );
        assert!(processor("").starts_with("unknown"));
    }

    #[test]
    fn file_names_contain_date_and_processor() {
        let machine = Machine {
            date: "2026-11-24".to_owned(),
            processor: "AMD EPYC(TM) CPU (family 25, model 17; avx2 fma amx_tile)".to_owned(),
            memory_bytes: 24_000_000_000,
            cores: 2,
            threads: 2,
            gpu: None,
            commit: "abc".to_owned(),
            versions: vec![("torch".to_owned(), "2.15.0".to_owned())],
        };
        assert_eq!(machine.file_stem(), "2026-11-24-amd-epyc-25-17");
        let text = machine.to_string();
        assert!(
            text.contains("threads: 2 on 2 cores; memory: 24 GB"),
            "{text}"
        );
        assert!(text.contains("versions: torch 2.15.0"), "{text}");
    }

    #[test]
    fn the_current_machine_is_detected() {
        let root = crate::project::root();
        let machine = Machine::detect(&root, 2, Map::new()).unwrap();
        assert!(machine.date.as_str() > "2026");
        assert!(machine.memory_bytes > 0);
        let candle = &machine.versions[1];
        assert!(
            candle.1.starts_with(|c: char| c.is_ascii_digit()),
            "{candle:?}"
        );
    }

    #[test]
    fn memory_and_versions_are_parsed() {
        assert_eq!(memory("MemTotal:       1000 kB\n"), 1_024_000);
        let lock = "name = \"a\"\nversion = \"1\"\n\nname = \"b\"\nversion = \"2.3\"\n";
        assert_eq!(locked_version(lock, "b"), "2.3");
        assert_eq!(locked_version(lock, "c"), "unknown");
    }
}
