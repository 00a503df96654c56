# A key, parameters, a secret with a policy, a bucket with an environment file, and a task definition that is given all of them.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "name" {
  type    = string
  default = "tf-secrets"
}

variable "change" {
  description = "Other values, another description, rotation"
  type        = bool
  default     = false
}

provider "aws" {
  s3_use_path_style = true
}

data "aws_caller_identity" "me" {}
data "aws_region" "here" {}

resource "aws_kms_key" "app" {
  description             = var.change ? "for the app, changed" : "for the app"
  enable_key_rotation     = var.change
  deletion_window_in_days = 7
  tags                    = { team = "web" }
}

resource "aws_kms_alias" "app" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.app.key_id
}

resource "aws_ssm_parameter" "url" {
  name        = "/${var.name}/url"
  description = "Where it is"
  type        = "String"
  value       = var.change ? "https://two.example" : "https://one.example"
  tags        = { team = "web" }
}

resource "aws_ssm_parameter" "hosts" {
  name  = "${var.name}-hosts"
  type  = "StringList"
  value = "a,b,c"
}

resource "aws_ssm_parameter" "token" {
  name   = "/${var.name}/token"
  type   = "SecureString"
  key_id = aws_kms_key.app.arn
  value  = var.change ? "another token" : "a token"
}

data "aws_ssm_parameter" "fluent_bit" {
  name = "/aws/service/aws-for-fluent-bit/stable"
}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended"
}

data "aws_secretsmanager_random_password" "db" {
  password_length     = 30
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "db" {
  name                    = "${var.name}/db"
  description             = "The database"
  kms_key_id              = aws_kms_key.app.arn
  recovery_window_in_days = 0
  tags                    = { team = "web" }
}

resource "aws_secretsmanager_secret_version" "db" {
  secret_id     = aws_secretsmanager_secret.db.id
  secret_string = jsonencode({ username = "app", password = var.change ? "second" : "first" })
}

resource "aws_secretsmanager_secret_policy" "db" {
  secret_arn = aws_secretsmanager_secret.db.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.execution.arn }
      Action    = "secretsmanager:GetSecretValue"
      Resource  = "*"
    }]
  })
}

resource "aws_s3_bucket" "files" {
  bucket        = "${var.name}-files"
  force_destroy = true
}

resource "aws_s3_object" "env" {
  bucket  = aws_s3_bucket.files.id
  key     = "app/production.env"
  content = var.change ? "MODE=changed\n" : "MODE=production\n"
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "execution" {
  name = "secrets"
  role = aws_iam_role.execution.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "ssm:GetParameters", Resource = [aws_ssm_parameter.url.arn, aws_ssm_parameter.token.arn] },
      { Effect = "Allow", Action = "kms:Decrypt", Resource = aws_kms_key.app.arn },
      { Effect = "Allow", Action = "s3:GetObject", Resource = "${aws_s3_bucket.files.arn}/*" },
    ]
  })
}

resource "aws_ecs_task_definition" "app" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions = jsonencode([{
    name             = "app"
    image            = "nginx"
    environmentFiles = [{ type = "s3", value = aws_s3_object.env.arn }]
    secrets = [
      { name = "URL", valueFrom = aws_ssm_parameter.url.arn },
      { name = "TOKEN", valueFrom = aws_ssm_parameter.token.name },
      { name = "PASSWORD", valueFrom = "${aws_secretsmanager_secret.db.arn}:password::" },
    ]
  }])
}

output "image" {
  value = nonsensitive(jsondecode(data.aws_ssm_parameter.image.value).image_id)
}
