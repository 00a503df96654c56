# Who may do what: an execution role and a task role as the ECS modules make them, a policy with versions, a boundary, an instance profile,
# a user in a group with an access key, a role for CI by OpenID Connect, and a service-linked role.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "name" {
  type    = string
  default = "tf-iam"
}

variable "change" {
  description = "Another policy, other tags, a longer session"
  type        = bool
  default     = false
}

provider "aws" {}

data "aws_caller_identity" "me" {}
data "aws_partition" "current" {}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.me.account_id]
    }
  }
}

# The execution role.
resource "aws_iam_role" "exec" {
  name               = "${var.name}-exec"
  path               = "/ecs/"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
  tags               = { Name = var.name, Changed = tostring(var.change) }
}

resource "aws_iam_role_policy_attachment" "exec" {
  role       = aws_iam_role.exec.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy" "readonly" {
  name = "AmazonSSMReadOnlyAccess"
}

# The tasks' role, with a policy of its own and one inline, within a boundary.
data "aws_iam_policy_document" "app" {
  statement {
    sid       = "Objects"
    actions   = var.change ? ["s3:GetObject", "s3:PutObject"] : ["s3:GetObject"]
    resources = ["arn:aws:s3:::${var.name}/*"]
  }
  statement {
    effect    = "Deny"
    actions   = ["iam:*"]
    resources = ["*"]
  }
}

resource "aws_iam_policy" "app" {
  name        = "${var.name}-app"
  description = "what the tasks may do"
  policy      = data.aws_iam_policy_document.app.json
  tags        = { Name = var.name }
}

resource "aws_iam_policy" "boundary" {
  name   = "${var.name}-boundary"
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = ["s3:*", "logs:*", "ssm:Get*"], Resource = "*" }] })
}

resource "aws_iam_role" "app" {
  name_prefix          = "${var.name}-app-"
  description          = "of the tasks"
  assume_role_policy   = data.aws_iam_policy_document.tasks.json
  permissions_boundary = aws_iam_policy.boundary.arn
  max_session_duration = var.change ? 7200 : 3600
}

resource "aws_iam_role_policy_attachment" "app" {
  for_each   = { own = aws_iam_policy.app.arn, aws = data.aws_iam_policy.readonly.arn }
  role       = aws_iam_role.app.name
  policy_arn = each.value
}

resource "aws_iam_role_policy" "inline" {
  name   = "inline"
  role   = aws_iam_role.app.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "logs:PutLogEvents", Resource = "arn:aws:logs:*:*:log-group:/${var.name}:*" }] })
}

# A role that another may take on, by its ARN.
resource "aws_iam_role" "deploy" {
  name = "${var.name}-deploy"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole",
  Principal = { AWS = aws_iam_role.app.arn } }] })
}

# An instance's.
resource "aws_iam_role" "instance" {
  name               = "${var.name}-instance"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }] })
}

resource "aws_iam_instance_profile" "instance" {
  name = "${var.name}-instance"
  role = aws_iam_role.instance.name
  tags = { Name = var.name }
}

# People.
resource "aws_iam_group" "developers" {
  name = "${var.name}-developers"
}

resource "aws_iam_group_policy_attachment" "developers" {
  group      = aws_iam_group.developers.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonECS_FullAccess"
}

resource "aws_iam_group_policy" "developers" {
  group  = aws_iam_group.developers.name
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "iam:PassRole", Resource = aws_iam_role.app.arn }] })
}

resource "aws_iam_user" "ann" {
  name          = "${var.name}-ann"
  path          = "/people/"
  force_destroy = true
  tags          = var.change ? { Team = "red" } : { Team = "blue", Old = "yes" }
}

resource "aws_iam_user_group_membership" "ann" {
  user   = aws_iam_user.ann.name
  groups = [aws_iam_group.developers.name]
}

resource "aws_iam_user_policy" "ann" {
  user   = aws_iam_user.ann.name
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Resource = aws_iam_role.deploy.arn }] })
}

resource "aws_iam_user_policy_attachment" "ann" {
  user       = aws_iam_user.ann.name
  policy_arn = aws_iam_policy.app.arn
}

resource "aws_iam_access_key" "ann" {
  user   = aws_iam_user.ann.name
  status = var.change ? "Inactive" : "Active"
}

# CI.
resource "aws_iam_openid_connect_provider" "github" {
  url             = "https://token.actions.githubusercontent.com"
  client_id_list  = var.change ? ["sts.amazonaws.com", "another"] : ["sts.amazonaws.com"]
  thumbprint_list = ["6938fd4d98bab03faadb97b34396831e3780aea1"]
}

resource "aws_iam_role" "ci" {
  name = "${var.name}-ci"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRoleWithWebIdentity",
    Principal = { Federated = aws_iam_openid_connect_provider.github.arn }
  Condition = { StringLike = { "token.actions.githubusercontent.com:sub" = "repo:acme/*" } } }] })
}

resource "aws_iam_service_linked_role" "ecs" {
  aws_service_name = "ecs.amazonaws.com"
}

output "secret" {
  value     = aws_iam_access_key.ann.secret
  sensitive = true
}
