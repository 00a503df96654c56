package ecs

import (
	"context"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/berthdev/berth/internal/api/wire"
)

func TestAccountSettings(t *testing.T) {
	r := newRig(t)
	ana := wire.WithCaller(context.Background(), wire.Caller{ARN: "arn:aws:iam::000000000000:user/ana"})
	effective := func() string {
		out := ok(r.listAccountSettings(ana, &sdk.ListAccountSettingsInput{Name: "containerInsights", EffectiveSettings: true}))(t)
		if len(out.Settings) != 1 {
			t.Fatalf("settings: %+v", out.Settings)
		}
		return *out.Settings[0].Value
	}
	if got := effective(); got != "disabled" {
		t.Errorf("preset %s", got)
	}
	ok(r.putAccountSettingDefault(ana, &sdk.PutAccountSettingDefaultInput{Name: "containerInsights", Value: new("enhanced")}))(t)
	if got := effective(); got != "enhanced" {
		t.Errorf("the account's default: %s", got)
	}
	own := ok(r.putAccountSetting(ana, &sdk.PutAccountSettingInput{Name: "containerInsights", Value: new("enabled")}))(t)
	if got := effective(); got != "enabled" || *own.Setting.PrincipalArn != "arn:aws:iam::000000000000:user/ana" {
		t.Errorf("one's own: %s, %+v", got, own.Setting)
	}
	if out := ok(r.listAccountSettings(ana, &sdk.ListAccountSettingsInput{}))(t); len(out.Settings) != 1 {
		t.Errorf("without effectiveSettings only what was set is listed: %+v", out.Settings)
	}
	gone := ok(r.deleteAccountSetting(ana, &sdk.DeleteAccountSettingInput{Name: "containerInsights"}))(t)
	if *gone.Setting.Value != "enhanced" || effective() != "enhanced" {
		t.Errorf("deleted: %+v", gone.Setting)
	}
	_, err := r.putAccountSetting(ana, &sdk.PutAccountSettingInput{Name: "x", Value: new("enabled")})
	refused(t, err, "InvalidParameterException", "Invalid account setting name 'x'.")
	_, err = r.putAccountSetting(ana, &sdk.PutAccountSettingInput{Name: "awsvpcTrunking", Value: new("maybe")})
	refused(t, err, "InvalidParameterException",
		"Invalid value 'maybe' of account setting awsvpcTrunking. The value must be one of enabled, disabled.")
	all := ok(r.listAccountSettings(ana, &sdk.ListAccountSettingsInput{EffectiveSettings: true}))(t)
	rest := ok(r.listAccountSettings(ana, &sdk.ListAccountSettingsInput{EffectiveSettings: true, NextToken: all.NextToken}))(t)
	if len(all.Settings) != 10 || len(rest.Settings) != 1 {
		t.Errorf("eleven settings over two pages: %d, %d", len(all.Settings), len(rest.Settings))
	}
}
