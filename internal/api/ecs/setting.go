package ecs

import (
	"context"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

var (
	onOff      = []string{"enabled", "disabled"}
	onOffShort = []string{"enabled", "disabled", "on", "off"}
)

// settings are the account settings: the values each may have, and the one that holds when nobody set it.
var settings = map[types.SettingName]struct {
	values []string
	preset string
}{
	types.SettingNameServiceLongArnFormat:            {onOff, "enabled"},
	types.SettingNameTaskLongArnFormat:               {onOff, "enabled"},
	types.SettingNameContainerInstanceLongArnFormat:  {onOff, "enabled"},
	types.SettingNameAwsvpcTrunking:                  {onOff, "disabled"},
	types.SettingNameContainerInsights:               {[]string{"enabled", "disabled", "enhanced"}, "disabled"},
	types.SettingNameFargateFipsMode:                 {onOff, "disabled"},
	types.SettingNameTagResourceAuthorization:        {onOffShort, "off"},
	types.SettingNameFargateTaskRetirementWaitPeriod: {[]string{"0", "7", "14"}, "7"},
	types.SettingNameGuardDutyActivate:               {onOffShort, "off"},
	types.SettingNameDefaultLogDriverMode:            {[]string{"blocking", "non-blocking"}, "non-blocking"},
	types.SettingNameFargateEventWindows:             {onOff, "disabled"},
}

func settingName(n types.SettingName) error {
	if _, ok := settings[n]; !ok {
		return invalid("Invalid account setting name '%s'.", n)
	}
	return nil
}

// principal is whose setting a request means: the ARN it names, else the caller's.
func (a *api) principal(ctx context.Context, asked *string) string {
	if value(asked) != "" {
		return *asked
	}
	return a.caller(ctx)
}

// caller is the ARN of who sent the request; the account's root outside one.
func (a *api) caller(ctx context.Context) string {
	if arn := wire.CallerFrom(ctx).ARN; arn != "" {
		return arn
	}
	return "arn:" + model.Partition + ":iam::" + a.scope.Account + ":root"
}

func (a *api) storeSetting(ctx context.Context, principal string, name types.SettingName, val string) (*types.Setting, error) {
	if err := settingName(name); err != nil {
		return nil, err
	}
	if !slices.Contains(settings[name].values, val) {
		return nil, invalid("Invalid value '%s' of account setting %s. The value must be one of %s.", val, name,
			strings.Join(settings[name].values, ", "))
	}
	err := a.store.Update(ctx, func(tx store.Tx) error {
		store.AccountSettings.Put(tx, &model.AccountSetting{Principal: principal, Name: string(name), Value: val})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.setting(principal, name, val), nil
}

// setting draws a setting; the account's default belongs to its root.
func (a *api) setting(principal string, name types.SettingName, val string) *types.Setting {
	if principal == "" {
		principal = "arn:" + model.Partition + ":iam::" + a.scope.Account + ":root"
	}
	return &types.Setting{Name: name, Value: &val, PrincipalArn: &principal, Type: types.SettingTypeUser}
}

func (a *api) putAccountSetting(ctx context.Context, in *sdk.PutAccountSettingInput) (*sdk.PutAccountSettingOutput, error) {
	s, err := a.storeSetting(ctx, a.principal(ctx, in.PrincipalArn), in.Name, value(in.Value))
	if err != nil {
		return nil, err
	}
	return &sdk.PutAccountSettingOutput{Setting: s}, nil
}

func (a *api) putAccountSettingDefault(
	ctx context.Context, in *sdk.PutAccountSettingDefaultInput,
) (*sdk.PutAccountSettingDefaultOutput, error) {
	s, err := a.storeSetting(ctx, "", in.Name, value(in.Value))
	if err != nil {
		return nil, err
	}
	return &sdk.PutAccountSettingDefaultOutput{Setting: s}, nil
}

func (a *api) deleteAccountSetting(ctx context.Context, in *sdk.DeleteAccountSettingInput) (*sdk.DeleteAccountSettingOutput,
	error) {
	if err := settingName(in.Name); err != nil {
		return nil, err
	}
	principal := a.principal(ctx, in.PrincipalArn)
	var out *types.Setting
	err := a.store.Update(ctx, func(tx store.Tx) error {
		store.AccountSettings.Delete(tx, (&model.AccountSetting{Principal: principal, Name: string(in.Name)}).Key())
		out = a.setting(principal, in.Name, effective(tx, principal, in.Name))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteAccountSettingOutput{Setting: out}, nil
}

// effective is the value that holds for a principal: its own, else the account's, else the preset.
func effective(r store.Reader, principal string, name types.SettingName) string {
	for _, p := range []string{principal, ""} {
		if s, ok := store.AccountSettings.Get(r, (&model.AccountSetting{Principal: p, Name: string(name)}).Key()); ok {
			return s.Value
		}
	}
	return settings[name].preset
}

func (a *api) listAccountSettings(ctx context.Context, in *sdk.ListAccountSettingsInput) (*sdk.ListAccountSettingsOutput, error) {
	if in.Name != "" {
		if err := settingName(in.Name); err != nil {
			return nil, err
		}
	} else if in.Value != nil {
		return nil, invalid("A value can be given only together with the name of a setting.")
	}
	principal := a.principal(ctx, in.PrincipalArn)
	list := []types.Setting{}
	a.store.View(func(r store.Reader) {
		for name := range settings {
			own, set := store.AccountSettings.Get(r, (&model.AccountSetting{Principal: principal, Name: string(name)}).Key())
			val := ""
			switch {
			case in.EffectiveSettings:
				val = effective(r, principal, name)
			case set:
				val = own.Value
			default:
				continue
			}
			if (in.Name == "" || in.Name == name) && (in.Value == nil || *in.Value == val) {
				list = append(list, *a.setting(principal, name, val))
			}
		}
	})
	key := func(s types.Setting) string { return string(s.Name) }
	slices.SortFunc(list, func(x, y types.Setting) int { return strings.Compare(key(x), key(y)) })
	var asked *int32
	if in.MaxResults != 0 {
		asked = &in.MaxResults
	}
	list, next, err := page(list, key, false, in.NextToken, asked, 10, 10)
	if err != nil {
		return nil, err
	}
	return &sdk.ListAccountSettingsOutput{Settings: list, NextToken: next}, nil
}
