//! The commands about images of the region's registry.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Image {
    /// Push an archive of `docker save`, or an OCI layout, into the region's registry
    Load(ImageLoad),
    /// List the images of the region's registry
    Ls,
    /// Remove an image, given as NAME:TAG or NAME@DIGEST
    Rm(ImageRm),
    /// Make an image archive of one static program, without Docker
    Pack(ImagePack),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImageLoad {
    /// The archive or directory; `-` reads an archive from standard input
    pub(crate) path: PathBuf,
    /// The repository and tag to load it as [default: the name in the archive]
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImageRm {
    #[arg(required = true, value_name = "NAME:TAG")]
    pub(crate) images: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImagePack {
    /// The program: statically linked, since the image holds nothing else
    pub(crate) program: PathBuf,
    /// The archive to write, an OCI layout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The name in the archive
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: String,
    /// Documents a port that the program listens on
    #[arg(long, value_name = "PORT")]
    pub(crate) expose: Vec<u16>,
}
