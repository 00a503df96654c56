# Schedules, events, alarms and a topic.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "name" {
  type    = string
  default = "tf-events"
}

variable "change" {
  description = "Another threshold, another schedule, another pattern"
  type        = bool
  default     = false
}

provider "aws" {}

resource "aws_ecs_cluster" "this" {
  name = var.name
}

resource "aws_ecs_task_definition" "job" {
  family                = "${var.name}-job"
  container_definitions = jsonencode([{ name = "job", image = "busybox", memory = 64, command = ["true"] }])
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "scheduler.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "events" {
  name               = "${var.name}-events"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "run" {
  name = "run"
  role = aws_iam_role.events.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["ecs:RunTask", "iam:PassRole"], Resource = "*" }]
  })
}

resource "aws_cloudwatch_log_group" "events" {
  name = "/${var.name}/events"
}

resource "aws_cloudwatch_event_rule" "nightly" {
  name                = "${var.name}-nightly"
  description         = "Every night"
  schedule_expression = var.change ? "cron(0 4 * * ? *)" : "cron(0 3 * * ? *)"
  tags                = { team = "shop" }
}

resource "aws_cloudwatch_event_target" "job" {
  rule      = aws_cloudwatch_event_rule.nightly.name
  target_id = "job"
  arn       = aws_ecs_cluster.this.arn
  role_arn  = aws_iam_role.events.arn
  input     = jsonencode({ containerOverrides = [{ name = "job", command = ["sleep", "1"] }] })
  ecs_target {
    task_count          = 1
    task_definition_arn = aws_ecs_task_definition.job.arn
  }
}

resource "aws_cloudwatch_event_rule" "stopped" {
  name = "${var.name}-stopped"
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail      = { lastStatus = var.change ? ["STOPPED", "RUNNING"] : ["STOPPED"], clusterArn = [aws_ecs_cluster.this.arn] }
  })
}

resource "aws_cloudwatch_event_target" "log" {
  rule = aws_cloudwatch_event_rule.stopped.name
  arn  = aws_cloudwatch_log_group.events.arn
}

resource "aws_cloudwatch_event_target" "topic" {
  rule = aws_cloudwatch_event_rule.stopped.name
  arn  = aws_sns_topic.alarms.arn
  input_transformer {
    input_paths    = { task = "$.detail.taskArn" }
    input_template = "\"<task> stopped\""
  }
}

resource "aws_scheduler_schedule_group" "this" {
  name = var.name
}

resource "aws_scheduler_schedule" "hourly" {
  name                         = "hourly"
  group_name                   = aws_scheduler_schedule_group.this.name
  schedule_expression          = var.change ? "rate(2 hours)" : "rate(1 hour)"
  schedule_expression_timezone = "Europe/Berlin"
  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 5
  }
  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.events.arn
    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.job.arn
    }
    retry_policy {
      maximum_event_age_in_seconds = 600
      maximum_retry_attempts       = 3
    }
  }
}

resource "aws_sns_topic" "alarms" {
  name = "${var.name}-alarms"
}

resource "aws_cloudwatch_metric_alarm" "cpu" {
  alarm_name          = "${var.name}-cpu"
  alarm_description   = "The job is busy"
  namespace           = "AWS/ECS"
  metric_name         = "CPUUtilization"
  dimensions          = { ClusterName = aws_ecs_cluster.this.name }
  statistic           = "Average"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  threshold           = var.change ? 90 : 80
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = { team = "shop" }
}

resource "aws_cloudwatch_metric_alarm" "ratio" {
  alarm_name          = "${var.name}-ratio"
  evaluation_periods  = 1
  threshold           = 50
  comparison_operator = "GreaterThanOrEqualToThreshold"
  metric_query {
    id          = "e1"
    expression  = "100 * FILL(m1, 0) / m2"
    label       = "share"
    return_data = true
  }
  metric_query {
    id = "m1"
    metric {
      namespace   = "shop"
      metric_name = "Failed"
      period      = 60
      stat        = "Sum"
    }
  }
  metric_query {
    id = "m2"
    metric {
      namespace   = "shop"
      metric_name = "Orders"
      period      = 60
      stat        = "Sum"
    }
  }
}

resource "aws_cloudwatch_composite_alarm" "both" {
  alarm_name = "${var.name}-both"
  alarm_rule = "ALARM(\"${aws_cloudwatch_metric_alarm.cpu.alarm_name}\") OR ALARM(\"${aws_cloudwatch_metric_alarm.ratio.alarm_name}\")"
}
