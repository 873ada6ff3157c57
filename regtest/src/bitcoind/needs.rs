//! What building bitcoind needs on the machine, whether it is there, and how it gets there.
//!
//! Core's own HTTP server has replaced libevent in the version we build, and without wallet, ZMQ and IPC nothing is
//! looked up by pkg-config: CMake, make, a C++ compiler and the headers of Boost are all.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// One thing the build needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// CMake, 3.22 or newer.
    Cmake,
    /// make or ninja.
    Make,
    /// A compiler for C++20.
    Compiler,
    /// The headers of Boost, 1.74 or newer, with their CMake files.
    Boost,
}

impl Need {
    const ALL: [Need; 4] = [Need::Cmake, Need::Make, Need::Compiler, Need::Boost];

    fn name(self) -> &'static str {
        match self {
            Need::Cmake => "CMake",
            Need::Make => "make",
            Need::Compiler => "a C++ compiler",
            Need::Boost => "the headers of Boost",
        }
    }
}

/// Programs that install packages, the first one found on the machine counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Installer {
    Apt,
    Dnf,
    Pacman,
    Apk,
    Brew,
}

impl Installer {
    const ALL: [Installer; 5] =
        [Installer::Apt, Installer::Dnf, Installer::Pacman, Installer::Apk, Installer::Brew];

    fn program(self) -> &'static str {
        match self {
            Installer::Apt => "apt-get",
            Installer::Dnf => "dnf",
            Installer::Pacman => "pacman",
            Installer::Apk => "apk",
            Installer::Brew => "brew",
        }
    }

    fn package(self, need: Need) -> &'static str {
        match (self, need) {
            (_, Need::Cmake) => "cmake",
            (_, Need::Make) => "make",
            (Installer::Apt | Installer::Apk, Need::Compiler) => "g++",
            (Installer::Dnf, Need::Compiler) => "gcc-c++",
            (Installer::Pacman | Installer::Brew, Need::Compiler) => "gcc",
            (Installer::Apt, Need::Boost) => "libboost-dev",
            (Installer::Dnf, Need::Boost) => "boost-devel",
            (Installer::Apk, Need::Boost) => "boost-dev",
            (Installer::Pacman | Installer::Brew, Need::Boost) => "boost",
        }
    }

    /// What a user types who may not, or not yet, install as root.
    fn command(self, lacking: &[Need]) -> String {
        let packages: Vec<_> = lacking.iter().map(|need| self.package(*need)).collect();
        let packages = packages.join(" ");
        match self {
            Installer::Apt => {
                format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {packages}")
            }
            Installer::Dnf => format!("sudo dnf install -y {packages}"),
            Installer::Pacman => format!("sudo pacman -S --needed {packages}"),
            Installer::Apk => format!("sudo apk add {packages}"),
            Installer::Brew => format!("brew install {packages}"),
        }
    }
}

/// The machine lacks what the build needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// What is not there; if the compiler is not there, Boost cannot be looked for and counts as lacking.
    pub needs: Vec<Need>,
    /// The command that installs it, if the machine has an installer known here.
    pub command: Option<String>,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names())?;
        match &self.command {
            Some(command) => write!(f, "; install with: {command}"),
            None => write!(f, "; install them, or set BITCOIND to a bitcoind of your own"),
        }
    }
}

impl Lacking {
    /// What is lacking, without the remedy.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.needs.iter().map(|need| need.name()).collect();
        format!("{} not found", names.join(", "))
    }

    fn new(needs: Vec<Need>) -> Lacking {
        let installer =
            Installer::ALL.into_iter().find(|installer| runs(installer.program(), &["--version"]));
        Lacking { command: installer.map(|installer| installer.command(&needs)), needs }
    }
}

/// Commands that install what is lacking without asking anybody: only as root on Debian and its relatives.
pub(super) fn unattended_install(lacking: &[Need]) -> Option<Vec<Command>> {
    if !is_root() || !runs(Installer::Apt.program(), &["--version"]) {
        return None;
    }
    // Another installation under way is waited for, not failed on.
    let apt = |args: &[&str]| {
        let mut command = Command::new(Installer::Apt.program());
        command.args(["-o", "DPkg::Lock::Timeout=600", "-y"]).args(args);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let mut install = apt(&["install", "--no-install-recommends"]);
    install.args(lacking.iter().map(|need| Installer::Apt.package(*need)));
    Some(vec![apt(&["update"]), install])
}

/// Looks for everything the build needs. `scratch` is a folder that may be written to and is left behind; `log` gets
/// CMake's words on what it does not find.
pub(super) fn check(scratch: &Path, log: &File) -> Result<(), Lacking> {
    let mut lacking: Vec<Need> =
        Need::ALL.into_iter().filter(|need| *need != Need::Boost && !is_there(*need)).collect();
    if !lacking.is_empty() || !boost_is_there(scratch, log) {
        lacking.push(Need::Boost);
    }
    if lacking.is_empty() { Ok(()) } else { Err(Lacking::new(lacking)) }
}

fn is_there(need: Need) -> bool {
    match need {
        Need::Cmake => runs("cmake", &["--version"]),
        Need::Make => runs("make", &["--version"]) || runs("ninja", &["--version"]),
        Need::Compiler => match std::env::var("CXX") {
            // CMake obeys the variable, and says itself what is wrong with its value.
            Ok(compiler) if !compiler.trim().is_empty() => true,
            _ => ["c++", "g++", "clang++"].iter().any(|compiler| runs(compiler, &["--version"])),
        },
        Need::Boost => false,
    }
}

/// Asks CMake in the same words as Core's own build.
fn boost_is_there(scratch: &Path, log: &File) -> bool {
    const PROJECT: &str = "cmake_minimum_required(VERSION 3.22)\nproject(needs LANGUAGES CXX)\nfind_package(Boost 1.74.0 REQUIRED CONFIG)\n";
    let build = scratch.join("build");
    let written = std::fs::create_dir_all(scratch)
        .and_then(|()| std::fs::write(scratch.join("CMakeLists.txt"), PROJECT))
        .is_ok();
    let (Ok(output), Ok(errors)) = (log.try_clone(), log.try_clone()) else { return false };
    let mut command = Command::new("cmake");
    command.arg("-S").arg(scratch).arg("-B").arg(build).args(generator());
    let status = command.stdin(Stdio::null()).stdout(output).stderr(errors).status();
    written && status.is_ok_and(|status| status.success())
}

/// CMake's generator: ninja only where there is no make, and what the user chose where they chose.
pub(super) fn generator() -> &'static [&'static str] {
    if std::env::var_os("CMAKE_GENERATOR").is_none() && !runs("make", &["--version"]) {
        &["-G", "Ninja"]
    } else {
        &[]
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn runs(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    let status = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_installer_gets_one_exact_command() {
        let needs = [Need::Cmake, Need::Compiler, Need::Boost];
        let rows = [
            (
                Installer::Apt,
                "sudo apt-get update && sudo apt-get install -y --no-install-recommends cmake g++ libboost-dev",
            ),
            (Installer::Dnf, "sudo dnf install -y cmake gcc-c++ boost-devel"),
            (Installer::Pacman, "sudo pacman -S --needed cmake gcc boost"),
            (Installer::Apk, "sudo apk add cmake g++ boost-dev"),
            (Installer::Brew, "brew install cmake gcc boost"),
        ];
        for (installer, command) in rows {
            assert_eq!(installer.command(&needs), command);
        }
    }

    #[test]
    fn what_is_lacking_is_said_with_or_without_an_installer() {
        let mut lacking =
            Lacking { needs: vec![Need::Cmake, Need::Boost], command: Some("fetch it".to_owned()) };
        assert_eq!(lacking.to_string(), "CMake, the headers of Boost not found; install with: fetch it");
        lacking.command = None;
        let text = lacking.to_string();
        assert!(text.ends_with("install them, or set BITCOIND to a bitcoind of your own"), "{text}");
    }
}
