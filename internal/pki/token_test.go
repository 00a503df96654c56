package pki

import (
	"crypto/sha256"
	"strings"
	"testing"
)

func testToken(role Role) Token { return NewToken(role, sha256.Sum256([]byte("an authority"))) }

func TestTokens(t *testing.T) {
	for _, role := range []Role{RoleNode, RoleServer, RoleClient} {
		token := testToken(role)
		s := token.String()
		if len(s) != tokenLength {
			t.Errorf("%s has %d characters, want %d", s, len(s), tokenLength)
		}
		for _, typed := range []string{s, " " + strings.ToUpper(s) + "\n", strings.ReplaceAll(s, "0", "O"), strings.ReplaceAll(s, "1", "l")} {
			if got, err := ParseToken(typed); err != nil || got != token {
				t.Errorf("%q: %+v, %v", typed, got, err)
			}
		}
		if other := testToken(role); other.Hash() == token.Hash() || other.ID == token.ID {
			t.Error("two tokens are alike")
		}
	}
}

func TestMistypedTokens(t *testing.T) {
	s := testToken(RoleNode).String()
	for i := range s {
		typed := s[:i] + "7" + s[i+1:]
		if s[i] == '7' {
			typed = s[:i] + "8" + s[i+1:]
		}
		if _, err := ParseToken(typed); err == nil || i > 3 && !strings.Contains(err.Error(), "mistyped") {
			t.Errorf("character %d: %v", i, err)
		}
		if _, err := ParseToken(s[:i]); err == nil || i > 3 && !strings.Contains(err.Error(), "cut") {
			t.Errorf("%d characters: %v", i, err)
		}
		if i+1 < len(s) && s[i] != s[i+1] {
			if _, err := ParseToken(s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:]); err == nil {
				t.Errorf("characters %d and %d changed places and nobody saw it", i, i+1)
			}
		}
	}
	if _, err := ParseToken(s + "0"); err == nil {
		t.Error("a character too many")
	}
	later := "bt1x" + s[4:len(s)-5]
	if _, err := ParseToken(later + "-" + checksum(later)); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("a kind of later: %v", err)
	}
}

func TestJoinURLs(t *testing.T) {
	token := testToken(RoleNode)
	for s, want := range map[string]string{
		"berth://10.0.0.1:4567/":            "10.0.0.1:4567",
		"berth://10.0.0.1/":                 "10.0.0.1:4567",
		"berth://s1.example:9,s2.example/":  "s1.example:9 s2.example:4567",
		"berth://[fd00::1]:4567,[fd00::2]/": "[fd00::1]:4567 [fd00::2]:4567",
	} {
		u, err := ParseJoinURL(s+token.String(), RoleNode)
		if err != nil || strings.Join(u.Addresses, " ") != want || u.Token != token {
			t.Errorf("%s: %+v, %v", s, u, err)
			continue
		}
		if again, err := ParseJoinURL(u.String(), RoleNode); err != nil || again.String() != u.String() {
			t.Errorf("%s: read back as %v, %v", s, again, err)
		}
	}
	for s, words := range map[string]string{
		"":                                                   "berth token node",
		"10.0.0.1:4567":                                      "berth token node",
		"https://10.0.0.1/" + token.String():                 "berth://",
		"berth://10.0.0.1:0/" + token.String():               "no address",
		"berth://a b/" + token.String():                      "no address",
		"berth://10.0.0.1?" + token.String():                 "berth://",
		"berth://10.0.0.1/" + token.String()[:50]:            "cut",
		"berth://10.0.0.1/" + testToken(RoleServer).String(): "for a server and not for a node",
	} {
		if _, err := ParseJoinURL(s, RoleNode); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", s, err, words)
		} else if strings.Contains(err.Error(), token.String()[14:40]) {
			t.Errorf("%q: the secret is in %v", s, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(testToken(RoleNode).String())
	f.Add("berth://10.0.0.1:4567,s2/" + testToken(RoleServer).String())
	f.Add("bt1n-k2m4x9qa-")
	f.Fuzz(func(t *testing.T, s string) {
		if token, err := ParseToken(s); err == nil {
			if again, err := ParseToken(token.String()); err != nil || again != token {
				t.Errorf("%q: %v, %v", s, again, err)
			}
		}
		if u, err := ParseJoinURL(s, RoleNode); err == nil {
			if again, err := ParseJoinURL(u.String(), RoleNode); err != nil || again.String() != u.String() {
				t.Errorf("%q: %v, %v", s, again, err)
			}
		}
	})
}
