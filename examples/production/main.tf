# A small web shop as it stands in many accounts: a network with public and private subnets in three zones, a load balancer
# with HTTPS, two services behind it, security groups, roles, a secret, logs and service discovery.
#
# It is written for Amazon ECS and knows nothing of Longshore: with what `longshore env` exports it applies there.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  default_tags {
    tags = { stack = var.name }
  }
}

variable "name" {
  type    = string
  default = "shop"
}

variable "image" {
  type        = string
  description = "What both services run: answers HTTP on port 8080."
}

variable "release" {
  type        = string
  default     = "1"
  description = "Another one rolls both services."
}

variable "network" {
  type    = string
  default = "10.20.0.0/16"
}

variable "desired" {
  type    = number
  default = 3
}

variable "http_port" {
  type    = number
  default = 80
}

variable "https_port" {
  type    = number
  default = 443
}

data "aws_region" "here" {}

data "aws_caller_identity" "me" {}

locals {
  services = {
    web    = { path = "/*", priority = 200 }
    orders = { path = "/orders*", priority = 100 }
  }
}
