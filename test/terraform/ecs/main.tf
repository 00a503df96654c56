# A cluster with two services behind an application load balancer, in subnets and security groups of their own.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "name" {
  type    = string
  default = "tf-ecs"
}

variable "port" {
  description = "Port of the load balancer"
  type        = number
}

variable "change" {
  description = "More tasks, another rule, another revision"
  type        = bool
  default     = false
}

provider "aws" {}

data "aws_caller_identity" "me" {}
data "aws_region" "here" {}
data "aws_availability_zones" "available" {}

locals {
  cidr     = "10.79.0.0/16"
  azs      = slice(data.aws_availability_zones.available.names, 0, 2)
  services = { web = { port = 8080, path = "/*", priority = 100 }, api = { port = 9090, path = "/api/*", priority = 10 } }
}

resource "aws_vpc" "this" {
  cidr_block           = local.cidr
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_subnet" "this" {
  count             = 2
  vpc_id            = aws_vpc.this.id
  cidr_block        = cidrsubnet(local.cidr, 8, count.index)
  availability_zone = local.azs[count.index]
  tags              = { Name = "${var.name}-${count.index}" }
}

resource "aws_security_group" "alb" {
  name        = "${var.name}-alb"
  description = "The load balancer"
  vpc_id      = aws_vpc.this.id
  ingress {
    description = "the world"
    from_port   = var.port
    to_port     = var.port
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = [local.cidr]
  }
  tags = { Name = "${var.name}-alb" }
}

resource "aws_security_group" "service" {
  for_each               = local.services
  name_prefix            = "${each.key}-"
  description            = "A service"
  vpc_id                 = aws_vpc.this.id
  revoke_rules_on_delete = true
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "alb" {
  for_each                     = local.services
  security_group_id            = aws_security_group.service[each.key].id
  description                  = var.change ? "requests" : "from the load balancer"
  from_port                    = each.value.port
  to_port                      = each.value.port + (var.change ? 1 : 0)
  ip_protocol                  = "tcp"
  referenced_security_group_id = aws_security_group.alb.id
  tags                         = { Name = each.key }
}

resource "aws_vpc_security_group_egress_rule" "all" {
  for_each          = local.services
  security_group_id = aws_security_group.service[each.key].id
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

# The API may be asked by the other service.
resource "aws_security_group_rule" "api_from_web" {
  type                     = "ingress"
  security_group_id        = aws_security_group.service["api"].id
  source_security_group_id = aws_security_group.service["web"].id
  protocol                 = "tcp"
  from_port                = 9100
  to_port                  = 9200
}

resource "aws_lb" "this" {
  name               = var.name
  internal           = false
  load_balancer_type = "application"
  security_groups    = [aws_security_group.alb.id]
  subnets            = aws_subnet.this[*].id
  depends_on         = [aws_internet_gateway.this]
}

resource "aws_lb_target_group" "service" {
  for_each             = local.services
  name                 = "${var.name}-${each.key}"
  port                 = each.value.port
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = aws_vpc.this.id
  deregistration_delay = 5
  health_check {
    path    = "/"
    matcher = "200-399"
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  port              = var.port
  protocol          = "HTTP"
  default_action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "nobody"
      status_code  = "404"
    }
  }
}

resource "aws_lb_listener_rule" "service" {
  for_each     = local.services
  listener_arn = aws_lb_listener.http.arn
  priority     = each.value.priority
  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.service[each.key].arn
  }
  condition {
    path_pattern {
      values = [each.value.path]
    }
  }
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  setting {
    name  = "containerInsights"
    value = "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
  default_capacity_provider_strategy {
    capacity_provider = "FARGATE"
    base              = 1
    weight            = 100
  }
}

resource "aws_cloudwatch_log_group" "service" {
  for_each          = local.services
  name              = "/ecs/${var.name}/${each.key}"
  retention_in_days = 7
}

resource "aws_ecs_task_definition" "service" {
  for_each                 = local.services
  family                   = "${var.name}-${each.key}"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = "arn:aws:iam::${data.aws_caller_identity.me.account_id}:role/${var.name}"
  container_definitions = jsonencode([{
    name         = each.key
    image        = "public.ecr.aws/docker/library/nginx:latest"
    essential    = true
    portMappings = [{ containerPort = each.value.port, protocol = "tcp" }]
    environment  = [{ name = "CHANGED", value = tostring(var.change) }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.service[each.key].name
        awslogs-region        = data.aws_region.here.name
        awslogs-stream-prefix = "ecs"
      }
    }
  }])
}

resource "aws_ecs_service" "service" {
  for_each        = local.services
  name            = each.key
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.service[each.key].arn
  desired_count   = var.change ? 2 : 1
  launch_type     = "FARGATE"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  network_configuration {
    subnets          = aws_subnet.this[*].id
    security_groups  = [aws_security_group.service[each.key].id]
    assign_public_ip = true
  }
  load_balancer {
    target_group_arn = aws_lb_target_group.service[each.key].arn
    container_name   = each.key
    container_port   = each.value.port
  }
  depends_on = [aws_lb_listener_rule.service]
}

output "address" {
  value = "http://${aws_lb.this.dns_name}:${var.port}"
}
