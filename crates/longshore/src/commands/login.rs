//! `longshore login`: a user's password for a profile with keys of a while.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use control::{Advertised, Config};
use iam::{MUST_CHANGE, NEEDS_CODE, SignIn, SignedIn};
use longshore_types::Token;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use trust::Trust;

use crate::cli::Login;
use crate::client::ClientError;
use crate::commands::Environment;
use crate::commands::configure::Profile;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::remote::{Remote, RemoteError};

/// The operation's name.
const SIGN_IN: &str = "SignIn";

pub(crate) async fn run(
    data: &DataDir,
    environment: &Environment,
    args: &Login,
) -> Result<(), Error> {
    let (endpoint, authority) = place(data, args)?;
    let remote = remote(&endpoint, authority.as_deref())?;
    let mut reader = Reader::of(args.password_stdin);
    let account = args.account.clone().unwrap_or_else(|| Config::root_account().to_string());
    let password = reader.ask(&format!("Password of {} in {account}: ", args.user))?;
    let password =
        password.ok_or_else(|| Error::message("there is no password to sign in with"))?;
    let new_password = if args.change_password { Some(reader.ask_new()?) } else { None };
    let (user, code) = (args.user.clone(), args.code.clone());
    let mut asked = SignIn { account, user, password, code, new_password };
    let signed_in = loop {
        let answered = remote.call::<_, SignedIn>(SIGN_IN, &asked, None).await;
        let wants = |wanted: &str| match &answered {
            Err(RemoteError::Answered(ClientError::Api { code, message, .. })) => {
                (code == wanted).then(|| message.clone())
            }
            Ok(_) | Err(_) => None,
        };
        if asked.new_password.is_none()
            && let Some(message) = wants(MUST_CHANGE)
        {
            eprintln!("{message}");
            asked.new_password = Some(reader.ask_new()?);
        } else if asked.code.is_none() && wants(NEEDS_CODE).is_some() {
            let code = reader.ask("Code of your MFA device: ")?;
            let missing = || Error::message("a code of the MFA device is needed: --code");
            asked.code = Some(code.ok_or_else(missing)?.reveal().trim().to_owned());
        } else {
            break answered.map_err(Error::other("sign in"))?.value;
        }
    };
    let name = args.profile.as_deref().unwrap_or(&args.user);
    let profile = Profile {
        name,
        region: &signed_in.region,
        endpoint: &endpoint.to_string(),
        authority: authority.as_deref(),
    };
    let keys = [
        ("aws_access_key_id", signed_in.access_key_id.as_str()),
        ("aws_secret_access_key", signed_in.secret_access_key.reveal()),
        ("aws_session_token", signed_in.session_token.reveal()),
    ];
    profile.write(environment, &keys)?;
    println!(
        "signed in as {} until {}; use it with: aws --profile {name} sts get-caller-identity",
        signed_in.arn, signed_in.expires_at
    );
    Ok(())
}

/// Where the region is, and the file of whom it is believed by, if not by the system's.
fn place(data: &DataDir, args: &Login) -> Result<(Advertised, Option<PathBuf>), Error> {
    if let Some(endpoint) = &args.endpoint {
        let authority = args.ca.as_ref().map(std::path::absolute).transpose();
        let authority = authority.map_err(Error::io("resolve the file of authorities"))?;
        return Ok((endpoint.clone(), authority));
    }
    let region = data.region()?;
    let endpoint = region.told().parse();
    let endpoint = endpoint.map_err(Error::other("read the region's address"))?;
    Ok((endpoint, region.authority_for_clients().map(Path::to_path_buf)))
}

fn remote(endpoint: &Advertised, authority: Option<&Path>) -> Result<Remote, Error> {
    if !endpoint.is_secure() && !endpoint.is_on_loopback() {
        return Err(Error::Refused(format!(
            "a password does not go to {endpoint}, where anybody on the way could read it: write https://"
        )));
    }
    let trust = match authority {
        Some(path) => {
            let pem = std::fs::read(path);
            let pem = pem.map_err(|source| Error::DataDir { path: path.to_owned(), source })?;
            Trust::only(&pem).map_err(Error::other("read the file of authorities"))?.and_system()
        }
        None => Trust::system(),
    };
    Ok(Remote { endpoint: endpoint.clone(), tls: Arc::new(trust.client_config()) })
}

/// Where passwords come from.
enum Reader {
    /// One a line.
    Lines(io::Lines<io::StdinLock<'static>>),
    /// Typed by somebody, and not shown.
    Terminal,
}

impl Reader {
    fn of(is_given: bool) -> Self {
        if is_given { Self::Lines(io::stdin().lock().lines()) } else { Self::Terminal }
    }

    /// `None` if there is no line more.
    fn ask(&mut self, prompt: &str) -> Result<Option<Token>, Error> {
        match self {
            Self::Lines(lines) => {
                let line = lines.next().transpose().map_err(Error::io("read a password"))?;
                Ok(line.map(Token::from_text))
            }
            Self::Terminal => typed(prompt).map(Some),
        }
    }

    /// One to be: typed twice, since nobody sees it.
    fn ask_new(&mut self) -> Result<Token, Error> {
        let missing = || Error::message("a new password is needed: the line after the password");
        let new = self.ask("New password: ")?.ok_or_else(missing)?;
        if matches!(self, Self::Terminal) && self.ask("The same again: ")?.as_ref() != Some(&new) {
            return Err(Error::message(
                "the new password was typed in two ways; nothing was changed",
            ));
        }
        Ok(new)
    }
}

/// Reads a line that is not shown while it is typed.
fn typed(prompt: &str) -> Result<Token, Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::message(
            "there is no terminal to type a password at: see --password-stdin",
        ));
    }
    let failed = |error: nix::Error| Error::io("hide what is typed")(error.into());
    let shown = tcgetattr(stdin.as_fd()).map_err(failed)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    hidden.local_flags.insert(LocalFlags::ECHONL);
    eprint!("{prompt}");
    // What the prompt lacks nobody waits for.
    drop(io::stderr().flush());
    tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &hidden).map_err(failed)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &shown).map_err(failed)?;
    read.map_err(Error::io("read a password"))?;
    Ok(Token::from_text(line.trim_end_matches(['\r', '\n']).to_owned()))
}
