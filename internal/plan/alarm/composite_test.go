package alarm

import (
	"slices"
	"strings"
	"testing"
)

func TestComposite(t *testing.T) {
	states := map[string]State{"cpu": Alarm, "disk": OK, "new one": Insufficient, "arn:aws:cloudwatch:r:a:alarm:x": Alarm}
	for rule, want := range map[string]State{
		`ALARM("cpu")`:                            Alarm,
		`ALARM(cpu) AND NOT OK(disk)`:             OK,
		`ALARM(cpu) AND (OK("disk") )`:            Alarm,
		`OK(cpu) OR ALARM(disk)`:                  OK,
		`FALSE OR INSUFFICIENT_DATA("new one")`:   Alarm,
		`NOT TRUE`:                                OK,
		`TRUE OR FALSE AND FALSE`:                 Alarm,
		`ALARM("arn:aws:cloudwatch:r:a:alarm:x")`: Alarm,
		`ALARM(gone)`:                             OK,
	} {
		c, err := ParseRule(rule)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
		} else if got := c.State(func(n string) State { return states[n] }); got != want {
			t.Errorf("%s: %s", rule, got)
		}
	}
	c, _ := ParseRule(`ALARM(a) AND (OK("b c") OR NOT ALARM(a))`)
	if got := c.Names(); !slices.Equal(got, []string{"a", "b c", "a"}) {
		t.Errorf("names %v", got)
	}
	for _, bad := range []string{"", "ALARM", "ALARM(", "ALARM()", "alarm(x)", "ALARM(x) ALARM(y)", "ALARM(x) AND", "(ALARM(x)", `ALARM("x)`, strings.Repeat("(", 100),
		strings.Repeat("NOT ", 100) + "TRUE", strings.Repeat("ALARM(x) OR ", 200) + "TRUE"} {
		if _, err := ParseRule(bad); err == nil {
			t.Errorf("%.30q is taken", bad)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add(`ALARM("cpu") AND NOT (OK(disk) OR FALSE)`)
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseRule(text); err == nil {
			c.State(func(string) State { return OK })
			c.Names()
		}
	})
}
