//! A draft as the row that is kept: the document, and what placement and the payload read of it.

use aws_wire::{ApiError, json};
use ecs_api as api;
use ecs_api::{ContainerDefinition, PortMapping, ResourceType, TransportProtocol};
use longshore_types::{AccountId, CpuUnits, MemoryMib, TaskDefinitionId, Timestamp};
use model::{
    ContainerNeeds, Document, PortNeed, Protocol, Tags, TaskDefinition, TaskDefinitionStatus,
};

use super::requirements::requires_fence;
use super::{Draft, list, name, text};

impl Draft {
    /// The row of its first revision, and the shape that its document is: the family's counter says
    /// which revision it really is.
    pub(crate) fn into_row(
        mut self,
        account: AccountId,
        tags: Tags,
        registered_by: String,
    ) -> Result<(TaskDefinition, api::TaskDefinition), ApiError> {
        self.complete_roles(account);
        let platform = self.request.runtime_platform.clone().unwrap_or_default();
        let request = &self.request;
        let shape = self.shape();
        let row = TaskDefinition {
            account,
            id: TaskDefinitionId { family: self.family.clone(), revision: 1 },
            status: TaskDefinitionStatus::Active,
            document: document_of(&shape)?,
            registered_at: Timestamp(0),
            registered_by,
            deregistered_at: None,
            delete_requested_at: None,
            network_mode: self.effective_mode(),
            network_mode_given: self.mode.is_some(),
            cpu: self.cpu,
            memory: self.memory,
            containers: self.containers().iter().map(container_needs).collect::<Result<_, _>>()?,
            requires_attributes: [
                self.requires_attributes(),
                self.requires_platform(),
                requires_fence(&tags)?.into_iter().collect(),
            ]
            .concat(),

            placement_expressions: list(&request.placement_constraints)
                .iter()
                .filter_map(|constraint| constraint.expression.clone())
                .collect(),
            cpu_architecture: platform.cpu_architecture.map(|arch| arch.to_string()),
            operating_system_family: platform.operating_system_family.map(|os| os.to_string()),
            task_role: request.task_role_arn.clone().filter(|arn| !arn.is_empty()),
            execution_role: request.execution_role_arn.clone().filter(|arn| !arn.is_empty()),
            ephemeral_storage_gib: request
                .ephemeral_storage
                .as_ref()
                .and_then(|storage| u32::try_from(storage.size_in_gib?).ok()),
            cannot_run: self.cannot_run(),
            tags,
            requires_compatibilities: self.requires,
            compatibilities: self.compatibilities,
        };
        Ok((row, shape))
    }
}

fn document_of(shape: &api::TaskDefinition) -> Result<Document, ApiError> {
    let text = String::from_utf8(json::to_vec(shape))
        .map_err(|error| ApiError::fault("failed to keep a task definition", error))?;
    Document::from_text(text)
        .map_err(|error| ApiError::fault("failed to keep a task definition", error))
}

fn container_needs(container: &ContainerDefinition) -> Result<ContainerNeeds, ApiError> {
    let mib = |given: Option<i32>| given.and_then(|mib| u32::try_from(mib).ok()).map(MemoryMib);
    let container_name = name(container)
        .parse()
        .map_err(|error| ApiError::fault("failed to keep a container that was checked", error))?;
    Ok(ContainerNeeds {
        name: container_name,
        image: text(&container.image).to_owned(),
        essential: container.essential.unwrap_or(true),
        cpu: CpuUnits(container.cpu.and_then(|units| u32::try_from(units).ok()).unwrap_or(0)),
        memory: mib(container.memory),
        memory_reservation: mib(container.memory_reservation),
        ports: list(&container.port_mappings).iter().filter_map(port_need).collect(),
        gpus: list(&container.resource_requirements)
            .iter()
            .filter(|need| need.r#type == Some(ResourceType::Gpu))
            .filter_map(|need| text(&need.value).parse::<u32>().ok())
            .sum(),
    })
}

fn port_need(mapping: &PortMapping) -> Option<PortNeed> {
    Some(PortNeed {
        container_port: u16::try_from(mapping.container_port?).ok()?,
        host_port: u16::try_from(mapping.host_port.unwrap_or(0)).ok()?,
        protocol: match mapping.protocol {
            Some(TransportProtocol::Udp) => Protocol::Udp,
            _ => Protocol::Tcp,
        },
    })
}
