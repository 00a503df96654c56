package alarm

import (
	"errors"
	"fmt"
	"strings"
)

// maxRule bounds the rule of a composite alarm, as AWS does, and maxTerms what it names.
const (
	maxRule  = 10240
	maxTerms = 100
	maxDeep  = 50
)

// Composite is the rule of a composite alarm: ALARM("cpu") AND NOT (OK(disk) OR FALSE).
type Composite struct{ root term }

type term struct {
	op   string // AND, OR, NOT, TRUE, FALSE, or the state that the alarm must be in
	name string
	args []term
}

// ParseRule reads a rule.
func ParseRule(text string) (Composite, error) {
	if len(text) > maxRule || strings.TrimSpace(text) == "" {
		return Composite{}, errors.New("a rule has 1 to 10240 characters")
	}
	p := &ruleParser{text: text}
	root, err := p.or(0)
	if err == nil && p.peek() != 0 {
		err = fmt.Errorf("unexpected text at character %d", p.at+1)
	}
	if err == nil && p.terms > maxTerms {
		err = errors.New("a rule names at most 100 alarms")
	}
	return Composite{root}, err
}

// Names are the alarms that the rule names, by name or ARN.
func (c Composite) Names() (all []string) {
	var walk func(term)
	walk = func(t term) {
		if t.name != "" {
			all = append(all, t.name)
		}
		for _, a := range t.args {
			walk(a)
		}
	}
	walk(c.root)
	return all
}

// State is ALARM when the rule holds, given the states of the alarms that it names, and OK else.
func (c Composite) State(of func(name string) State) State {
	if c.root.holds(of) {
		return Alarm
	}
	return OK
}

func (t term) holds(of func(string) State) bool {
	switch t.op {
	case "TRUE":
		return true
	case "FALSE":
		return false
	case "NOT":
		return !t.args[0].holds(of)
	case "AND":
		return t.args[0].holds(of) && t.args[1].holds(of)
	case "OR":
		return t.args[0].holds(of) || t.args[1].holds(of)
	}
	return of(t.name) == State(t.op)
}

type ruleParser struct {
	text  string
	at    int
	terms int
}

// peek returns the next character that is no space, 0 at the end.
func (p *ruleParser) peek() byte {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

// word reads letters and _.
func (p *ruleParser) word() string {
	p.peek()
	from := p.at
	for p.at < len(p.text) && (p.text[p.at] >= 'A' && p.text[p.at] <= 'Z' || p.text[p.at] == '_') {
		p.at++
	}
	return p.text[from:p.at]
}

func (p *ruleParser) join(depth int, op string, next func(int) (term, error)) (term, error) {
	if depth > maxDeep {
		return term{}, errors.New("the rule nests too deeply")
	}
	left, err := next(depth + 1)
	for err == nil {
		back := p.at
		if p.word() != op {
			p.at = back
			return left, nil
		}
		var right term
		if right, err = next(depth + 1); err == nil {
			left = term{op: op, args: []term{left, right}}
		}
	}
	return term{}, err
}

func (p *ruleParser) or(depth int) (term, error)  { return p.join(depth, "OR", p.and) }
func (p *ruleParser) and(depth int) (term, error) { return p.join(depth, "AND", p.one) }

func (p *ruleParser) one(depth int) (term, error) {
	if depth > maxDeep {
		return term{}, errors.New("the rule nests too deeply")
	}
	if p.peek() == '(' {
		p.at++
		inner, err := p.or(depth)
		if err == nil && p.peek() != ')' {
			err = fmt.Errorf("a ) is missing at character %d", p.at+1)
		}
		p.at++
		return inner, err
	}
	switch w := p.word(); w {
	case "TRUE", "FALSE":
		return term{op: w}, nil
	case "NOT":
		inner, err := p.one(depth + 1)
		return term{op: w, args: []term{inner}}, err
	case "ALARM", "OK", "INSUFFICIENT_DATA":
		name, err := p.name()
		p.terms++
		return term{op: w, name: name}, err
	default:
		return term{}, fmt.Errorf("ALARM, OK, INSUFFICIENT_DATA, NOT, TRUE, FALSE or ( is missing at character %d", p.at+1)
	}
}

// name reads ("name") or (name).
func (p *ruleParser) name() (string, error) {
	if p.peek() != '(' {
		return "", fmt.Errorf("a ( is missing at character %d", p.at+1)
	}
	p.at++
	name := ""
	if p.peek() == '"' {
		end := strings.IndexByte(p.text[p.at+1:], '"')
		if end < 0 {
			return "", errors.New("a name does not end")
		}
		name = p.text[p.at+1 : p.at+1+end]
		p.at += end + 2
	} else if end := strings.IndexByte(p.text[p.at:], ')'); end >= 0 {
		name = strings.TrimSpace(p.text[p.at : p.at+end])
		p.at += end
	}
	if p.peek() != ')' || name == "" {
		return "", fmt.Errorf("an alarm's name and ) are missing at character %d", p.at+1)
	}
	p.at++
	return name, nil
}
