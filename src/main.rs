//! The binary: reads the configuration, serves until told to stop.

#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // It defines a function of the C library.
mod sled_sync;

use rusd::config::{self, Action, Config, ConfigError, LogLevel, Warning};
use rusd::{logging, process, server};
use std::process::ExitCode;
use tracing::{error, info, warn};

// Without huge pages, which cost an idle member 60 MB (sled) or 25 MB (redb) of memory that it had touched a little of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process::install_panic_hook();
    match config::load(std::env::args_os().skip(1), config::process_env()) {
        Ok(Action::PrintVersion(text) | Action::PrintHelp(text)) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Ok(Action::Serve(mut config, warnings)) => {
            // Listening everywhere under default names, a member is known by its address (F-10).
            if let Some(host) = config::default_route_host() {
                config.advertise_host(host);
            }
            serve(*config, &warnings)
        }
        Err(error) => refuse(&error),
    }
}

/// Says why the server does not start. A slip on the command line is for the eyes of who typed it; anything
/// else goes where logs go.
fn refuse(error: &ConfigError) -> ExitCode {
    const USAGE: i32 = 2;
    let code = error.exit_code();
    if code == USAGE {
        eprintln!("{error}");
    } else {
        logging::early(
            LogLevel::Fatal,
            "the configuration is not valid",
            &[("error", &error.to_string())],
        );
    }
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn serve(config: Config, warnings: &[Warning]) -> ExitCode {
    let _flushed_last = match logging::init(&config.logging) {
        Ok(guard) => guard,
        Err(error) => {
            logging::early(
                LogLevel::Fatal,
                "cannot set up the log",
                &[("error", &error.to_string())],
            );
            return ExitCode::FAILURE;
        }
    };
    info!(fields = %config.summary(), "starting an etcd server");
    for warning in warnings {
        warn!("{warning}");
    }
    process::raise_open_files_limit();
    match server::run(config) {
        Ok(signal) => {
            info!(signal = signal.name(), "closed the server");
            logging::flush();
            signal.end_process()
        }
        Err(error) => {
            error!(fatal = true, %error, "the server cannot serve");
            ExitCode::FAILURE
        }
    }
}
