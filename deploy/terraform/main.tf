# A small fleet on EC2: one server that keeps the state, and nodes that run tasks. Berth on EC2 is no different from Berth elsewhere: what
# is worth copying is the security group and the user data.
#
#   terraform apply -var 'key_name=…'                       # the server first
#   ssh admin@$(terraform output -raw server) sudo berth token node
#   terraform apply -var 'key_name=…' -var 'join=berth://…' -var 'nodes=3'
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.0" }
  }
}

variable "berth_version" { type = string }
variable "key_name" { type = string }
variable "nodes" {
  type    = number
  default = 0
}
variable "join" {
  description = "what `berth token node` prints on the server; needed once nodes > 0"
  type        = string
  default     = ""
  sensitive   = true
  validation {
    condition     = var.join == "" || can(regex("^berth://.+:[0-9]+/bt1n-", var.join))
    error_message = "join is a URL such as berth://10.0.0.1:4567/bt1n-…"
  }
}
variable "instance_type" {
  type    = string
  default = "t3.large"
}
variable "admin_cidr" {
  description = "from which the API and ssh are reached"
  type        = string
  default     = "10.0.0.0/8"
}

data "aws_ami" "debian" {
  most_recent = true
  owners      = ["136693071363"] # Debian (wiki.debian.org/Cloud/AmazonEC2Image)
  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }
}

data "aws_vpc" "this" { default = true }

resource "aws_security_group" "fleet" {
  name_prefix = "berth-"
  vpc_id      = data.aws_vpc.this.id

  dynamic "ingress" {
    for_each = { ssh = 22, api = 4566 }
    content {
      description = ingress.key
      protocol    = "tcp"
      from_port   = ingress.value
      to_port     = ingress.value
      cidr_blocks = [var.admin_cidr]
    }
  }
  ingress {
    description = "sessions, servers among themselves"
    protocol    = "tcp"
    from_port   = 4567
    to_port     = 4568
    self        = true
  }
  ingress {
    description = "beats"
    protocol    = "udp"
    from_port   = 4567
    to_port     = 4567
    self        = true
  }
  ingress {
    description = "tasks across machines"
    protocol    = "udp"
    from_port   = 4569
    to_port     = 4569
    self        = true
  }
  egress {
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_instance" "server" {
  ami                    = data.aws_ami.debian.id
  instance_type          = "t3.small"
  key_name               = var.key_name
  vpc_security_group_ids = [aws_security_group.fleet.id]
  user_data              = replace(file("${path.module}/../cloud-init/server.yaml"), "VERSION #", "${var.berth_version} #")
  root_block_device {
    volume_type = "gp3"
    volume_size = 40
  }
  tags = { Name = "berth-server" }
  lifecycle { ignore_changes = [ami, user_data] } # the state is on its disk
}

resource "aws_instance" "node" {
  count                  = var.nodes
  ami                    = data.aws_ami.debian.id
  instance_type          = var.instance_type
  key_name               = var.key_name
  vpc_security_group_ids = [aws_security_group.fleet.id]
  user_data = replace(replace(file("${path.module}/../cloud-init/node.yaml"), "VERSION #", "${var.berth_version} #"),
  "berth://SERVER:4567/TOKEN", var.join)
  tags = { Name = "berth-node-${count.index + 1}" }
  lifecycle {
    ignore_changes = [ami, user_data]
    precondition {
      condition     = var.join != ""
      error_message = "nodes join with what `berth token node` prints on the server: -var 'join=berth://…'"
    }
  }
}

output "server" { value = aws_instance.server.private_ip }
output "nodes" { value = aws_instance.node[*].private_ip }
