//! Which images containers are made from.
//!
//! Not here: how the stand-ins are built (`deploy/images/build.sh`).

use anyhow::Context;
use testcontainers::GenericImage;
use testcontainers::bollard::Docker;

use crate::variables;

/// An image under its public name, and what is taken if only its stand-in is there.
pub(super) struct Image {
    variable: &'static str,
    public: &'static str,
    stand_in: &'static str,
}

pub(super) const POSTGRES: Image = Image {
    variable: variables::POSTGRES_IMAGE,
    public: "postgres:17-alpine",
    stand_in: "paidonce-offline/postgres:17",
};

pub(super) const RABBITMQ: Image = Image {
    variable: variables::RABBITMQ_IMAGE,
    public: "rabbitmq:4-management-alpine",
    stand_in: "paidonce-offline/rabbitmq:4-management",
};

impl Image {
    fn asked_for(&self) -> Option<String> {
        variables::text(self.variable).ok().flatten()
    }

    /// The first name that the engine has an image for.
    pub(super) async fn present(&self, engine: &Docker) -> Option<String> {
        let names = match self.asked_for() {
            Some(name) => vec![name],
            None => vec![self.public.to_owned(), self.stand_in.to_owned()],
        };
        for name in names {
            if engine.inspect_image(&name).await.is_ok() {
                return Some(name);
            }
        }
        None
    }

    /// What to run: if nothing is present, the engine shall try to get the image.
    pub(super) async fn choose(&self, engine: &Docker) -> anyhow::Result<GenericImage> {
        let name = match self.present(engine).await {
            Some(name) => name,
            None => self.asked_for().unwrap_or_else(|| self.public.to_owned()),
        };
        let (name, tag) = name
            .rsplit_once(':')
            .with_context(|| format!("the image {name} has no tag"))?;
        Ok(GenericImage::new(name, tag))
    }
}
