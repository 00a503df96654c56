package secretsmanager

import (
	"context"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/berthdev/berth/internal/model"
)

const usualPassword, mostPassword = 32, 4096

func (a *api) getRandomPassword(_ context.Context, in *sdk.GetRandomPasswordInput) (*sdk.GetRandomPasswordOutput, error) {
	length := int64(usualPassword)
	if in.PasswordLength != nil {
		length = *in.PasswordLength
	}
	if length < 1 || length > mostPassword {
		return nil, model.Errorf("ValidationException", "1 validation error detected: Value '%d' at 'passwordLength' failed to satisfy constraint: Member must have value "+
			"between 1 and %d", length, mostPassword)
	}
	var kinds []string
	for _, k := range []struct {
		not     bool
		letters string
	}{{value(in.ExcludeLowercase), "abcdefghijklmnopqrstuvwxyz"}, {value(in.ExcludeUppercase), "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
		{value(in.ExcludeNumbers), "0123456789"}, {value(in.ExcludePunctuation), "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}, {!value(in.IncludeSpace), " "}} {
		left := strings.Map(func(r rune) rune {
			if strings.ContainsRune(value(in.ExcludeCharacters), r) {
				return -1
			}
			return r
		}, k.letters)
		if !k.not && left != "" {
			kinds = append(kinds, left)
		}
	}
	each := in.RequireEachIncludedType == nil || *in.RequireEachIncludedType
	switch {
	case len(kinds) == 0:
		return nil, invalid("The password that you ask for has no characters left to be made of.")
	case each && int(length) < len(kinds):
		return nil, invalid("The password length is too short for a character of each of the included types.")
	}
	return &sdk.GetRandomPasswordOutput{RandomPassword: new(password(int(length), kinds, each))}, nil
}

// password is random letters of the kinds; with each, of every kind one at least.
func password(length int, kinds []string, each bool) string {
	all := strings.Join(kinds, "")
	b := make([]byte, length)
	for i := range b {
		of := all
		if each && i < len(kinds) {
			of = kinds[i]
		}
		b[i] = of[pick(len(of))]
	}
	for i := len(b) - 1; i > 0; i-- {
		j := below(i + 1)
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// below is pick for larger numbers.
func below(n int) int {
	if n <= 256 {
		return pick(n)
	}
	for {
		if v := pick(256)<<8 | pick(256); v < 65536-65536%n {
			return v % n
		}
	}
}
