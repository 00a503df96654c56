# The shop again, deployed by the AWS provider. Against Berth: eval "$(berth env)" && terraform init && terraform apply.
# The images shop/* must be in the registry (`make shop` builds them).

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "port" {
  description = "Port of the load balancer"
  type        = number
  default     = 8081
}

variable "name" {
  description = "Name of the cluster, the load balancer and everything else"
  type        = string
  default     = "tfshop"
}

provider "aws" {
  skip_requesting_account_id = false
}

locals {
  parts = {
    storefront = { count = 2, priority = null }
    auth       = { count = 1, priority = 10 }
    inventory  = { count = 1, priority = 20 }
    payment    = { count = 2, priority = 30 }
  }
}

data "aws_caller_identity" "me" {}
data "aws_region" "here" {}

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
}

data "aws_ecr_repository" "part" {
  for_each = local.parts
  name     = "shop/${each.key}"
}

data "aws_ecr_image" "part" {
  for_each        = local.parts
  repository_name = "shop/${each.key}"
  image_tag       = "latest"
}

resource "aws_cloudwatch_log_group" "shop" {
  name              = var.name
  retention_in_days = 7
}

resource "aws_ecs_cluster" "shop" {
  name = var.name
}

resource "aws_lb" "shop" {
  name               = var.name
  load_balancer_type = "application"
  subnets            = data.aws_subnets.default.ids
}

resource "aws_lb_target_group" "part" {
  for_each             = local.parts
  name                 = "${var.name}-${each.key}"
  port                 = 8080
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = data.aws_vpc.default.id
  deregistration_delay = 30

  health_check {
    path                = "/healthz"
    interval            = 5
    timeout             = 2
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.shop.arn
  port              = var.port
  protocol          = "HTTP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.part["storefront"].arn
  }
}

resource "aws_lb_listener_rule" "part" {
  for_each     = { for name, part in local.parts : name => part if part.priority != null }
  listener_arn = aws_lb_listener.http.arn
  priority     = each.value.priority

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.part[each.key].arn
  }

  condition {
    path_pattern {
      values = ["/${each.key}/*"]
    }
  }
}

resource "aws_ecs_task_definition" "part" {
  for_each                 = local.parts
  family                   = "${var.name}-${each.key}"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = "arn:aws:iam::${data.aws_caller_identity.me.account_id}:role/ecsTaskExecutionRole"

  container_definitions = jsonencode([{
    name                   = each.key
    image                  = "${data.aws_ecr_repository.part[each.key].repository_url}@${data.aws_ecr_image.part[each.key].image_digest}"
    essential              = true
    portMappings           = [{ containerPort = 8080 }]
    environment            = [{ name = "TOKEN_KEY", value = "terraform" }]
    readonlyRootFilesystem = true
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.shop.name
        awslogs-region        = data.aws_region.here.name
        awslogs-stream-prefix = each.key
      }
    }
  }])
}

resource "aws_ecs_service" "part" {
  for_each              = local.parts
  name                  = each.key
  cluster               = aws_ecs_cluster.shop.id
  task_definition       = aws_ecs_task_definition.part[each.key].arn
  desired_count         = each.value.count
  launch_type           = "FARGATE"
  wait_for_steady_state = true

  health_check_grace_period_seconds = 10

  network_configuration {
    subnets = data.aws_subnets.default.ids
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.part[each.key].arn
    container_name   = each.key
    container_port   = 8080
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  depends_on = [aws_lb_listener.http, aws_lb_listener_rule.part]
}

output "address" {
  value = "http://${aws_lb.shop.dns_name}:${var.port}"
}
