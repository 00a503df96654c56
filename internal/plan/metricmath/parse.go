// Package metricmath evaluates CloudWatch's metric math, pure: expressions over time series. It knows the operators, AVG, SUM, MIN, MAX,
// METRICS, RATE, DIFF, FILL, IF, PERIOD, ABS, CEIL, FLOOR and RUNNING_SUM.
package metricmath

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxLength is how long an expression may be.
const MaxLength = 2048

// maxDepth bounds how deep expressions nest.
const maxDepth = 64

// Expr is an expression that was read.
type Expr struct{ root node }

// node is a part of an expression: exactly one kind.
type node struct {
	kind   kind
	name   string // of an id, a function, an operator, or a text
	number float64
	args   []node
}

type kind int

const (
	isNumber kind = iota
	isID
	isText
	isCall
	isList
	isUnary
	isBinary
)

// Parse reads an expression. Errors say where it is wrong.
func Parse(text string) (Expr, error) {
	if len(text) > MaxLength {
		return Expr{}, fmt.Errorf("the expression is longer than %d characters", MaxLength)
	}
	p := &parser{text: text}
	root, err := p.or(0)
	if err != nil {
		return Expr{}, err
	}
	if p.space(); p.at < len(text) {
		return Expr{}, p.fault("unexpected %q", text[p.at:p.at+1])
	}
	return Expr{root}, nil
}

// IDs are those of the metrics and expressions that e names.
func (e Expr) IDs() (all []string) {
	seen := map[string]bool{}
	var walk func(node)
	walk = func(n node) {
		if n.kind == isID && !seen[n.name] && n.name != "REPEAT" && n.name != "LINEAR" {
			seen[n.name] = true
			all = append(all, n.name)
		}
		for _, a := range n.args {
			walk(a)
		}
	}
	walk(e.root)
	return all
}

// UsesMetrics tells whether e names all metrics of its request.
func (e Expr) UsesMetrics() bool { return uses(e.root) }

func uses(n node) bool {
	if n.kind == isCall && n.name == "METRICS" {
		return true
	}
	for _, a := range n.args {
		if uses(a) {
			return true
		}
	}
	return false
}

type parser struct {
	text string
	at   int
}

func (p *parser) fault(format string, args ...any) error {
	return fmt.Errorf("%s at character %d", fmt.Sprintf(format, args...), p.at+1)
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take reads one of the words, if it is next; words of letters end where letters end.
func (p *parser) take(words ...string) (string, bool) {
	p.space()
	rest := p.text[p.at:]
	for _, w := range words {
		if !strings.HasPrefix(rest, w) || letter(w[0]) && len(rest) > len(w) && (letter(rest[len(w)]) || digit(rest[len(w)])) {
			continue
		}
		p.at += len(w)
		return w, true
	}
	return "", false
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// level reads operands that the operators join, from the left.
func (p *parser) level(depth int, next func(int) (node, error), operators ...string) (node, error) {
	if depth > maxDepth {
		return node{}, p.fault("the expression nests too deeply")
	}
	left, err := next(depth + 1)
	for err == nil {
		op, ok := p.take(operators...)
		if !ok {
			return left, nil
		}
		var right node
		if right, err = next(depth + 1); err == nil {
			left = node{kind: isBinary, name: op, args: []node{left, right}}
		}
	}
	return node{}, err
}

func (p *parser) or(depth int) (node, error)  { return p.level(depth, p.and, "OR", "||") }
func (p *parser) and(depth int) (node, error) { return p.level(depth, p.compare, "AND", "&&") }
func (p *parser) compare(depth int) (node, error) {
	return p.level(depth, p.sum, "==", "!=", "<=", ">=", "<", ">")
}
func (p *parser) sum(depth int) (node, error)     { return p.level(depth, p.product, "+", "-") }
func (p *parser) product(depth int) (node, error) { return p.level(depth, p.unary, "*", "/") }

func (p *parser) unary(depth int) (node, error) {
	if depth > maxDepth {
		return node{}, p.fault("the expression nests too deeply")
	}
	if op, ok := p.take("-", "NOT", "!"); ok {
		if op == "!" {
			op = "NOT"
		}
		arg, err := p.unary(depth + 1)
		return node{kind: isUnary, name: op, args: []node{arg}}, err
	}
	base, err := p.primary(depth + 1)
	if err != nil {
		return node{}, err
	}
	if _, ok := p.take("^"); !ok {
		return base, nil
	}
	power, err := p.unary(depth + 1)
	return node{kind: isBinary, name: "^", args: []node{base, power}}, err
}

func (p *parser) primary(depth int) (node, error) {
	p.space()
	if p.at == len(p.text) {
		return node{}, p.fault("the expression ends too early")
	}
	start := p.at
	switch c := p.text[p.at]; {
	case c == '(':
		p.at++
		inner, err := p.or(depth)
		if err != nil {
			return node{}, err
		}
		if _, ok := p.take(")"); !ok {
			return node{}, p.fault("a ) is missing")
		}
		return inner, nil
	case c == '[':
		p.at++
		args, err := p.args(depth, "]")
		return node{kind: isList, args: args}, err
	case c == '"' || c == '\'':
		end := strings.IndexByte(p.text[p.at+1:], c)
		if end < 0 {
			return node{}, p.fault("a text does not end")
		}
		p.at += end + 2
		return node{kind: isText, name: p.text[start+1 : p.at-1]}, nil
	case digit(c) || c == '.':
		for p.at < len(p.text) && (digit(p.text[p.at]) || p.text[p.at] == '.' || p.exponent()) {
			p.at++
		}
		v, err := strconv.ParseFloat(p.text[start:p.at], 64)
		if err != nil {
			return node{}, p.fault("%q is no number", p.text[start:p.at])
		}
		return node{kind: isNumber, number: v}, nil
	case letter(c):
		for p.at < len(p.text) && (letter(p.text[p.at]) || digit(p.text[p.at])) {
			p.at++
		}
		name := p.text[start:p.at]
		if _, ok := p.take("("); !ok {
			return node{kind: isID, name: name}, nil
		}
		upper := strings.ToUpper(name)
		if _, known := functions[upper]; !known {
			p.at = start
			return node{}, p.fault("the function %.30s is not known to Berth", name)
		}
		args, err := p.args(depth, ")")
		return node{kind: isCall, name: upper, args: args}, err
	}
	return node{}, p.fault("unexpected %q", p.text[p.at:p.at+1])
}

// exponent tells whether the number goes on with e or with the sign behind it.
func (p *parser) exponent() bool {
	c := p.text[p.at]
	return (c == 'e' || c == 'E') || (c == '+' || c == '-') && strings.IndexByte("eE", p.text[p.at-1]) >= 0
}

func (p *parser) args(depth int, end string) (all []node, err error) {
	if _, ok := p.take(end); ok {
		return nil, nil
	}
	for {
		arg, err := p.or(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, arg)
		if _, ok := p.take(","); ok {
			continue
		}
		if _, ok := p.take(end); ok {
			return all, nil
		}
		return nil, p.fault("a %s is missing", end)
	}
}
