package wire

import (
	"context"
	"reflect"
	"strings"

	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/model"
)

// Service is one AWS service as the endpoint serves it. Build it with JSON or Query and add operations with Handle.
type Service struct {
	// Name is the service's name in a signature's scope: "ecs", "ecr", "logs", "sts", "elasticloadbalancing", "ec2".
	Name string
	// Protocol is how the service is spoken.
	Protocol Protocol
	// Target is the X-Amz-Target prefix without the dot (JSON), such as "AmazonEC2ContainerServiceV20141113".
	Target string
	// Version is the Version parameter (query), such as "2015-12-01".
	Version string
	// Namespace is the XML namespace of responses (query).
	Namespace string
	// Routes are the schemas of every operation that exists in AWS (REST), whose http traits say where each is found.
	Routes []*smithy.Schema
	// Schemas are those of the operations of an SDK module that has none, as those of S3 and Route 53: written by the service's
	// package from AWS's model. Set it before Handle.
	Schemas []*smithy.OperationSchema
	// Shape is the service's name in the paths of smithy-rpc-v2-cbor, such as "GraniteServiceVersion20100801"; a service that has
	// one is spoken to by CBOR too.
	Shape string
	// Actions is what the names of its actions begin with in policies; default Name.
	Actions string
	// Asks, when not nil, tells what a decoded request (a pointer to the SDK's Input struct) asks to be allowed: the operation's own
	// action with the resources that the input names, and what goes with it, such as iam:PassRole. It may read the store, and must not
	// fail: what the input gets wrong is the handler's to refuse. nil, or no answer: the operation's action on "*".
	Asks func(ctx context.Context, operation string, input any) []Ask
	// Names are the response elements of EC2 whose names are not just the field's with a small first letter, by Go field
	// ("Tags") or, which goes first, by Go type and field ("AvailabilityZone.State").
	Names map[string]string
	// Statuses are the HTTP statuses, by code, of a query service's errors that have another than 400.
	Statuses map[string]int
	// Unsigned are the operations of a query service that are called without a signature, such as AssumeRoleWithWebIdentity: whoever
	// calls is not asked about, and the handler decides.
	Unsigned []string
	// Types makes the SDK's types by shape id; nil for services whose SDK module has no schemas.
	Types *smithy.TypeRegistry

	operations map[string]operation
}

// Protocol is an AWS protocol.
type Protocol int

// The protocols.
const (
	JSON11   Protocol = iota // awsJson1_1
	JSON10                   // awsJson1_0
	Query                    // awsQuery
	EC2Query                 // ec2Query
	RESTJSON                 // restJson1, without streams (event streams and payloads that are not read whole) and jsonName
	RESTXML                  // restXml; S3's errors have no envelope
	CBOR                     // smithy-rpc-v2-cbor, beside another protocol
)

type operation struct {
	name string
	// newInput makes an empty *In and newOutput an empty *Out; call runs the handler on the one and returns the other.
	newInput  func() any
	newOutput func() any
	call      func(ctx context.Context, in any) (any, error)
	schema    *smithy.OperationSchema
	// stream, when not nil, runs a handler that answers with events.
	stream func(ctx context.Context, in any, send func(event any) error) error
}

// Handle adds an operation, whose name is that of its input: In and Out are the SDK's Input and Output structs, and their schemas are
// used where the SDK's module has some; the fields of others are named after the Go fields. Handlers return *model.Error, or one of
// the SDK's modelled error types, for refusals; any other error becomes an internal failure whose text the client does not see.
func Handle[In, Out any](s *Service, h func(context.Context, *In) (*Out, error)) {
	add(s, operation{
		newInput:  func() any { return new(In) },
		newOutput: func() any { return new(Out) },
		call:      func(ctx context.Context, in any) (any, error) { return h(ctx, in.(*In)) },
		schema:    &smithy.OperationSchema{Input: schemaOf(new(In)), Output: schemaOf(new(Out))},
	}, reflect.TypeFor[In]())
}

// Refuse has an operation that s serves always end with err. Call it before the service is used.
func (s *Service) Refuse(name string, err error) {
	op, ok := s.operations[name]
	if !ok {
		panic("wire: " + s.Name + " has no operation " + name)
	}
	op.call, op.stream = func(context.Context, any) (any, error) { return nil, err }, nil
	s.operations[name] = op
}

// HandleStream adds an operation that answers with an event stream: h sends variants of the union that the SDK's Output struct, of
// which any will do, streams, such as *types.StartLiveTailResponseStreamMemberSessionStart. The answer begins with the first event:
// what h returns before that is refused as by Handle, and what it returns later ends the stream with an exception. send fails when
// the client is gone or takes nothing; ctx ends with the client.
func HandleStream[In, Out any](s *Service, _ *Out, h func(ctx context.Context, in *In, send func(event any) error) error) {
	add(s, operation{
		newInput: func() any { return new(In) },
		stream:   func(ctx context.Context, in any, send func(event any) error) error { return h(ctx, in.(*In), send) },
		schema:   &smithy.OperationSchema{Input: schemaOf(new(In)), Output: schemaOf(new(Out))},
	}, reflect.TypeFor[In]())
}

func add(s *Service, op operation, in reflect.Type) {
	if s.operations == nil {
		s.operations = map[string]operation{}
	}
	op.name = strings.TrimSuffix(in.Name(), "Input")
	for _, r := range s.Routes {
		if r.ID().Name == op.name {
			op.schema.Schema = r
		}
	}
	for _, r := range s.Schemas {
		if r.Schema.ID().Name == op.name {
			op.schema = r
		}
	}
	if (s.Protocol == JSON11 || s.Protocol == JSON10) && op.newOutput != nil {
		if op.schema.Input == nil {
			op.schema.Input = derive(in)
		}
		if op.schema.Output == nil {
			op.schema.Output = derive(reflect.TypeOf(op.newOutput()).Elem())
		}
	}
	s.operations[op.name] = op
}

// schemaTrap stops a struct that writes itself at the first thing it says: its schema.
type schemaTrap struct{ smithy.ShapeSerializer }

// WriteStruct implements smithy.ShapeSerializer.
func (schemaTrap) WriteStruct(s *smithy.Schema) { panic(s) }

// schemaOf returns the schema of one of the SDK's structs, nil when it has none. The SDK ties the two together in the struct's
// Serialize only.
func schemaOf(v any) (s *smithy.Schema) {
	self, ok := v.(smithy.Serializable)
	if !ok {
		return nil
	}
	defer func() { s, _ = recover().(*smithy.Schema) }()
	self.Serialize(schemaTrap{})
	return nil
}

// Caller is who signed a request.
type Caller struct {
	Account     string
	ARN         string // such as arn:aws:iam::000000000000:root or arn:aws:sts::…:assumed-role/<role>/<session>
	UserID      string
	AccessKeyID string
	Region      string // of the signature's scope
	// Grant is what a session was made with; nil for others.
	Grant *model.Grant
	// Source is the address that the request came from, "" when it came from inside Berth. Secure tells whether it came encrypted.
	Source, UserAgent string
	Secure            bool
}

// Session is the ARN of a caller with temporary credentials, "" for others.
func (c Caller) Session() string {
	if strings.HasPrefix(c.ARN, "arn:"+model.Partition+":sts::") { // a session of GetSessionToken is its user
		return c.ARN
	}
	return ""
}

type callerKey struct{}

// WithCaller returns a context that carries c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller that the endpoint put into ctx; the zero Caller outside a request.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// Access decides what callers may do. iam.Authority is the real one.
type Access interface {
	// Allow returns nil, or a *model.Error with code AccessDeniedException.
	Allow(c Caller, ask Ask) error
}

// Ask is one thing that a request wants to be allowed: the request is served when each of its asks is.
type Ask struct {
	Action string // such as "ecs:RunTask"
	// Resources are the ARNs that it is about, each of which must be allowed; none means "*", as for actions that list.
	Resources []string
	// Context holds the request's values of condition keys, such as "ecs:cluster" or "aws:RequestTag/team"; those that every request
	// has (aws:PrincipalArn, aws:SourceIp, …) are not among them.
	Context map[string][]string
	// Policies are the resource's own policies (documents): of a repository, a secret, a key. None: it has none.
	Policies []string
}

// Keys finds the secrets of callers. iam.Authority is the real one.
type Keys interface {
	// Secret returns the secret of an access key and who it belongs to. token is the request's session token, "" without
	// one. Errors: *model.Error with code UnrecognizedClientException, InvalidClientTokenId or ExpiredTokenException.
	Secret(accessKeyID, token string) (secret string, caller Caller, err error)
}
