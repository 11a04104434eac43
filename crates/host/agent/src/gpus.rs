//! The GPUs of a host: those that NVIDIA's driver tells of, and those that the operator named with their device files.
//!
//! A GPU is given to one container whole: its device files, and of NVIDIA's the driver's own ones besides. What else one
//! of NVIDIA's needs, its toolkit says ([`Cdi`]).

mod cdi;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

pub(crate) use self::cdi::Edits;
pub use self::cdi::{Cdi, NotCdi};

/// Where NVIDIA's driver tells of itself.
const DRIVER: &str = "/proc/driver/nvidia";
const DEVICES: &str = "/dev";
/// Device files of the driver that every container with a GPU needs, as far as they are there.
const CONTROLS: [&str; 4] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];
/// How long a program of NVIDIA's may take: GPUs are woken by it.
const PROGRAM_MAX: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 30 });
/// Of what it says.
const SAID_BYTES_MAX: u64 = 4 << 20;
/// NVIDIA's toolkit.
const TOOLKIT: &str = "nvidia-ctk";

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    pub id: String,
    pub devices: Vec<PathBuf>,
    /// Whether NVIDIA's libraries know it by its id.
    pub is_nvidia: bool,
}

/// A text that names no GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as ID=/dev/FILE[,/dev/FILE…]")]
pub struct NotAGpu;

impl FromStr for Gpu {
    type Err = NotAGpu;

    fn from_str(text: &str) -> Result<Self, NotAGpu> {
        let (id, devices) = text.split_once('=').ok_or(NotAGpu)?;
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if !(1..=128).contains(&id.len()) || !id.bytes().all(is_allowed) {
            return Err(NotAGpu);
        }
        let devices: Vec<PathBuf> = devices.split(',').map(PathBuf::from).collect();
        let is_device = |path: &PathBuf| path.starts_with("/dev") && path.as_os_str() != "/dev";
        let is_plain = |path: &PathBuf| !path.components().any(|it| it.as_os_str() == "..");
        if !devices.iter().all(|path| is_device(path) && is_plain(path)) {
            return Err(NotAGpu);
        }
        Ok(Self { id: id.to_owned(), devices, is_nvidia: false })
    }
}

impl std::fmt::Display for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let devices: Vec<String> = self.devices.iter().map(|it| it.display().to_string()).collect();
        write!(f, "{}={}", self.id, devices.join(","))
    }
}

/// All GPUs of a host, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    by_id: BTreeMap<String, Gpu>,
    /// Of NVIDIA's driver.
    pub driver_version: Option<String>,
    /// What NVIDIA's toolkit says of them; nothing where there is no toolkit.
    cdi: Option<Cdi>,
}

impl Gpus {
    /// Those that the operator named.
    pub fn named(gpus: impl IntoIterator<Item = Gpu>) -> Self {
        let by_id = gpus.into_iter().map(|gpu| (gpu.id.clone(), gpu)).collect();
        Self { by_id, ..Self::default() }
    }

    /// The same with what containers need of them besides device files.
    #[must_use]
    pub fn with(self, cdi: Cdi) -> Self {
        Self { cdi: Some(cdi), ..self }
    }

    /// Those that NVIDIA's driver tells of.
    pub fn find() -> Self {
        let (driver, devices) = (Path::new(DRIVER), Path::new(DEVICES));
        let mut found = found_below(driver, devices);
        if found.is_asleep {
            wake();
            found = found_below(driver, devices);
            if found.is_asleep {
                warn!("a GPU of NVIDIA's has no id yet: it is left out");
            }
        }
        if !found.gpus.by_id.is_empty() {
            found.gpus.cdi = ask_toolkit(TOOLKIT);
            let (count, driver) = (found.gpus.by_id.len(), found.gpus.driver_version.as_deref());
            let has_toolkit = found.gpus.cdi.is_some();
            info!(count, driver, has_toolkit, "GPUs found");
        }
        found.gpus
    }

    /// What a container with these needs besides their device files.
    pub(crate) fn edits<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Edits {
        let of_nvidia = ids.filter(|id| self.get(id).is_some_and(|gpu| gpu.is_nvidia));
        self.cdi.as_ref().map(|cdi| cdi.edits(of_nvidia)).unwrap_or_default()
    }

    pub fn get(&self, id: &str) -> Option<&Gpu> {
        self.by_id.get(id)
    }

    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }
}

struct Found {
    gpus: Gpus,
    /// The driver has not looked at one of them since the machine started.
    is_asleep: bool,
}

fn found_below(driver: &Path, devices: &Path) -> Found {
    let mut found = Found { gpus: Gpus::default(), is_asleep: false };
    let controls: Vec<PathBuf> =
        CONTROLS.iter().map(|name| devices.join(name)).filter(|path| path.exists()).collect();
    for entry in fs::read_dir(driver.join("gpus")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path().join("information")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches(':').trim().to_owned())
        };
        let minor = field("Device Minor").and_then(|minor| minor.parse::<u32>().ok());
        let (Some(id), Some(minor)) = (field("GPU UUID"), minor) else { continue };
        if id.contains('?') {
            found.is_asleep = true;
            continue;
        }
        let device = devices.join(format!("nvidia{minor}"));
        if !device.exists() {
            warn!(gpu = id, device = %device.display(), "a GPU without its device file is left out");
            continue;
        }
        let devices = std::iter::once(device).chain(controls.iter().cloned()).collect();
        found.gpus.by_id.insert(id.clone(), Gpu { id, devices, is_nvidia: true });
    }
    let version = fs::read_to_string(driver.join("version")).unwrap_or_default();
    found.gpus.driver_version = driver_version(&version);
    found
}

/// `550.54.15` of `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar…`
fn driver_version(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:"))?;
    let is_version =
        |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// Has NVIDIA's own tool look at the GPUs, so that the driver does.
fn wake() {
    let _ = output("nvidia-smi", &["-L"]);
}

/// What the toolkit says of all GPUs, by their UUIDs. Without it containers have device files alone.
fn ask_toolkit(program: &str) -> Option<Cdi> {
    let arguments = ["cdi", "generate", "--format=json", "--device-name-strategy=uuid"];
    let said = match output(program, &arguments) {
        Ok(said) => said,
        Err(error) => {
            warn!(%error, program, "containers with GPUs get no libraries of NVIDIA's driver: its toolkit says nothing");
            return None;
        }
    };
    Cdi::read(&said)
        .inspect_err(|error| warn!(%error, program, "what NVIDIA's toolkit says is not understood"))
        .ok()
}

/// What a program says within its time.
fn output(program: &str, arguments: &[&str]) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (says, said) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = stdout.take(SAID_BYTES_MAX).read_to_string(&mut text);
            // Nobody waits for it any more.
            drop(says.send(read.map(|_| text)));
        });
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "before anything runs here: how long a program takes"
    )]
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if PROGRAM_MAX < start.elapsed() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    // What it started may go on, and have its output open for ever.
    let said = said.recv_timeout(PROGRAM_MAX.saturating_sub(start.elapsed()));
    said.unwrap_or_else(|_| Err(io::Error::other("its output does not end")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_named_with_its_device_files() {
        let gpu: Gpu = "amd-0=/dev/kfd,/dev/dri/renderD128".parse().unwrap();
        assert_eq!((gpu.id.as_str(), gpu.devices.len(), gpu.is_nvidia), ("amd-0", 2, false));
        assert_eq!(gpu.to_string(), "amd-0=/dev/kfd,/dev/dri/renderD128");
        for bad in
            ["", "x", "x=", "=/dev/x", "x=/etc/passwd", "x=/dev", "x=/dev/../etc", "a b=/dev/x"]
        {
            assert_eq!(bad.parse::<Gpu>(), Err(NotAGpu), "{bad}");
        }
    }

    #[test]
    fn gpus_are_found_where_the_driver_tells_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let (driver, devices) = (dir.path().join("driver"), dir.path().join("dev"));
        let put = |path: &str, text: &str| {
            let path = driver.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::create_dir_all(&devices).unwrap();
        for name in ["nvidia0", "nvidia2", "nvidiactl", "nvidia-uvm"] {
            fs::write(devices.join(name), "").unwrap();
        }
        let about = |id: &str, minor: u32| {
            format!(
                "Model: \t\t Tesla T4\nIRQ:   \t\t 24\nGPU UUID: \t {id}\nDevice Minor: \t {minor}\n"
            )
        };
        put("gpus/0000:00:1e.0/information", &about("GPU-b", 0));
        put("gpus/0000:00:1f.0/information", &about("GPU-a", 2));
        put("gpus/0000:00:20.0/information", &about("GPU-c", 5));
        put("gpus/0000:00:21.0/information", &about("GPU-????????-????", 6));
        put(
            "version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\nGCC version: 12.2.0\n",
        );
        let found = found_below(&driver, &devices);
        assert!(found.is_asleep);
        assert_eq!(found.gpus.ids().collect::<Vec<_>>(), ["GPU-a", "GPU-b"]);
        assert_eq!(found.gpus.driver_version.as_deref(), Some("550.54.15"));
        let expected = ["nvidia2", "nvidiactl", "nvidia-uvm"].map(|name| devices.join(name));
        assert_eq!(found.gpus.get("GPU-a").unwrap().devices, expected);
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.42.02  Release Build";
        assert_eq!(driver_version(open).as_deref(), Some("555.42.02"));
        assert_eq!(found_below(&dir.path().join("none"), &devices).gpus, Gpus::default());
    }

    #[test]
    fn what_the_toolkit_says_is_asked_of_it_and_a_toolkit_that_fails_says_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = |name: &str, script: String| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let asked = r#"test "$*" = "cdi generate --format=json --device-name-strategy=uuid""#;
        let document = cdi::tests::document();
        let fine = program(
            "fine",
            format!("{asked} || exit 9\necho >&2 level=info\ncat <<'X'\n{document}\nX"),
        );
        let gpus = Gpus { cdi: ask_toolkit(&fine), ..Gpus::default() };
        assert_eq!(gpus.cdi, Some(Cdi::read(&document.to_string()).unwrap()));
        // The last leaves something behind that has its output.
        for script in ["exit 1", "echo level=error", "echo '{}'; sleep 20 &"] {
            assert_eq!(ask_toolkit(&program("bad", script.to_owned())), None, "{script}");
        }
        assert_eq!(ask_toolkit("/nonexistent/nvidia-ctk"), None);
    }
}
