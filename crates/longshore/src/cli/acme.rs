//! What a region is told of an ACME server, from which its listener's certificate is to be.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use acme::Directory;
use clap::Args;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AcmeArgs {
    /// Show a certificate of the ACME server with this directory, such as https://acme-v02.api.letsencrypt.org/directory, whose terms
    /// of service you agree to by this [default: the region's own authority signs one]
    #[arg(long, value_name = "URL", conflicts_with = "tls_cert")]
    pub(crate) acme: Option<Directory>,
    /// A name to ask the ACME server for; may be given several times [default: the host of --advertise]
    #[arg(long, value_name = "NAME", requires = "acme")]
    pub(crate) acme_name: Vec<String>,
    /// A mail address that the ACME server may write to; may be given several times
    #[arg(long, value_name = "ADDRESS", requires = "acme")]
    pub(crate) acme_contact: Vec<String>,
    /// A PEM file with the authority of an ACME server that machines don't know anyway: it proves the server, and hosts
    /// that join and clients are told to trust what it signs
    #[arg(long, value_name = "FILE", requires = "acme")]
    pub(crate) acme_ca: Option<PathBuf>,
    /// Where the ACME server finds proofs by HTTP (http-01): port 80 of the names must lead there [default: by TLS at
    /// the region's listener (tls-alpn-01), where port 443 of the names must lead]
    #[arg(long, value_name = "ADDR:PORT", requires = "acme")]
    pub(crate) acme_listen: Option<SocketAddr>,
    /// A file with two lines, the id and the key in base64url of an account that one has with the ACME server already
    /// (external account binding)
    #[arg(long, value_name = "FILE", requires = "acme")]
    pub(crate) acme_binding: Option<PathBuf>,
}

impl AcmeArgs {
    /// The same again, for another process, whose directory may be another.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let file = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()).into_os_string())
        };
        let text = |value: Option<String>| value.map(OsString::from);
        let one = [
            ("--acme", text(self.acme.as_ref().map(ToString::to_string))),
            ("--acme-ca", file(&self.acme_ca)),
            ("--acme-listen", text(self.acme_listen.map(|it| it.to_string()))),
            ("--acme-binding", file(&self.acme_binding)),
        ];
        let names = self.acme_name.iter().map(|name| ("--acme-name", text(Some(name.clone()))));
        let contacts =
            self.acme_contact.iter().map(|it| ("--acme-contact", text(Some(it.clone()))));
        let all = one.into_iter().chain(names).chain(contacts);
        all.filter_map(|(flag, value)| Some([flag.into(), value?])).flatten().collect()
    }
}
