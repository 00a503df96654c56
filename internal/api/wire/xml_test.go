package wire_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsr53 "github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
)

// The SDK's modules of restXml have no schemas: these are written as a service's package would, from AWS's model.

func shape(name string, kind smithy.ShapeType, ts ...smithy.Trait) *smithy.Schema {
	return smithy.NewSchema(smithy.ShapeID{Namespace: "com.amazonaws.route53", Name: name}, kind, 0, ts...)
}

var (
	text    = shape("String", smithy.ShapeTypeString)
	boolean = shape("Boolean", smithy.ShapeTypeBoolean)
	long    = shape("Long", smithy.ShapeTypeLong)
	moment  = shape("TimeStamp", smithy.ShapeTypeTimestamp)
)

// structure makes a structure of members in pairs of a name and a schema.
func structure(name string, members ...any) *smithy.Schema {
	s := shape(name, smithy.ShapeTypeStructure)
	for i := 0; i < len(members); i += 2 {
		s.AddMember(members[i].(string), members[i+1].(*smithy.Schema))
	}
	return s
}

// list makes a list whose elements are called item.
func list(name, item string, of *smithy.Schema) *smithy.Schema {
	s := shape(name, smithy.ShapeTypeList)
	s.AddMember("member", of, &traits.XMLName{Name: item})
	return s
}

func route53Schemas() []*smithy.OperationSchema {
	op := func(name, method, uri string, code int, in, out *smithy.Schema) *smithy.OperationSchema {
		return smithy.NewOperationSchema(shape(name, smithy.ShapeTypeOperation, &traits.HTTP{Method: method, URI: uri, Code: code}), in, out)
	}
	config := structure("HostedZoneConfig", "Comment", text, "PrivateZone", boolean)
	zone := structure("HostedZone", "Id", text, "Name", text, "CallerReference", text, "Config", config, "ResourceRecordSetCount", long)
	change := structure("ChangeInfo", "Id", text, "Status", text, "SubmittedAt", moment, "Comment", text)
	created := structure("CreateHostedZoneResponse", "HostedZone", zone, "ChangeInfo", change, "DelegationSet",
		structure("DelegationSet", "Id", text, "NameServers", list("DelegationSetNameServers", "NameServer", text)))
	created.AddMember("Location", text, &traits.HTTPHeader{Name: "Location"})
	records := structure("ResourceRecordSet", "Name", text, "Type", text, "TTL", long, "ResourceRecords",
		list("ResourceRecords", "ResourceRecord", structure("ResourceRecord", "Value", text)))
	changes := structure("ChangeResourceRecordSetsRequest", "ChangeBatch", structure("ChangeBatch", "Comment", text, "Changes",
		list("Changes", "Change", structure("Change", "Action", text, "ResourceRecordSet", records))))
	changes.AddMember("HostedZoneId", text, &traits.HTTPLabel{})
	gone := structure("DeleteHostedZoneRequest")
	gone.AddMember("Id", text, &traits.HTTPLabel{})
	return []*smithy.OperationSchema{
		op("CreateHostedZone", "POST", "/2013-04-01/hostedzone", 201,
			structure("CreateHostedZoneRequest", "Name", text, "CallerReference", text, "HostedZoneConfig", config), created),
		op("ChangeResourceRecordSets", "POST", "/2013-04-01/hostedzone/{HostedZoneId}/rrset", 200, changes,
			structure("ChangeResourceRecordSetsResponse", "ChangeInfo", change)),
		op("DeleteHostedZone", "DELETE", "/2013-04-01/hostedzone/{Id}", 200, gone, structure("DeleteHostedZoneResponse", "ChangeInfo", change)),
	}
}

// TestStockClientsSpeakRESTXML: Route 53's client is understood, answered and refused.
func TestStockClientsSpeakRESTXML(t *testing.T) {
	at := time.Unix(1_700_000_000, 250e6).UTC()
	info := &r53types.ChangeInfo{Id: aws.String("/change/C1"), Status: r53types.ChangeStatusInsync, SubmittedAt: &at}
	var changed *awsr53.ChangeResourceRecordSetsInput
	s := &wire.Service{Name: "route53", Protocol: wire.RESTXML, Schemas: route53Schemas()}
	wire.Handle(s, func(_ context.Context, in *awsr53.CreateHostedZoneInput) (*awsr53.CreateHostedZoneOutput, error) {
		return &awsr53.CreateHostedZoneOutput{ChangeInfo: info, Location: aws.String("https://x/zone"),
			DelegationSet: &r53types.DelegationSet{NameServers: []string{"ns1", "ns2"}},
			HostedZone: &r53types.HostedZone{Id: aws.String("/hostedzone/Z1"), Name: in.Name, CallerReference: in.CallerReference,
				Config: in.HostedZoneConfig, ResourceRecordSetCount: aws.Int64(0)}}, nil
	})
	wire.Handle(s, func(_ context.Context, in *awsr53.ChangeResourceRecordSetsInput) (*awsr53.ChangeResourceRecordSetsOutput, error) {
		changed = in
		return &awsr53.ChangeResourceRecordSetsOutput{ChangeInfo: info}, nil
	})
	wire.Handle(s, func(_ context.Context, in *awsr53.DeleteHostedZoneInput) (*awsr53.DeleteHostedZoneOutput, error) {
		return nil, model.Errorf("NoSuchHostedZone", "No hosted zone found with ID: %s", *in.Id)
	})
	c := awsr53.NewFromConfig(wiretest.Serve(t, s))
	const odd = "a <b> & \"c\" é\nd"
	out, err := c.CreateHostedZone(ctx, &awsr53.CreateHostedZoneInput{Name: aws.String("example.com."), CallerReference: aws.String(odd),
		HostedZoneConfig: &r53types.HostedZoneConfig{Comment: aws.String(""), PrivateZone: true}})
	if err != nil {
		t.Fatal(err)
	}
	if z := out.HostedZone; *z.CallerReference != odd || !z.Config.PrivateZone || z.Config.Comment == nil || *z.ResourceRecordSetCount != 0 ||
		!reflect.DeepEqual(out.DelegationSet.NameServers, []string{"ns1", "ns2"}) || *out.Location != "https://x/zone" ||
		!out.ChangeInfo.SubmittedAt.Equal(at) {
		t.Errorf("%+v %+v %+v", z, out, out.ChangeInfo)
	}
	in := &awsr53.ChangeResourceRecordSetsInput{HostedZoneId: aws.String("Z1"), ChangeBatch: &r53types.ChangeBatch{Changes: []r53types.Change{
		{Action: r53types.ChangeActionUpsert, ResourceRecordSet: &r53types.ResourceRecordSet{Name: aws.String("a"), Type: r53types.RRTypeA,
			TTL: aws.Int64(60), ResourceRecords: []r53types.ResourceRecord{{Value: aws.String("1.2.3.4")}, {Value: aws.String("1.2.3.5")}}}},
		{Action: r53types.ChangeActionDelete, ResourceRecordSet: &r53types.ResourceRecordSet{Name: aws.String("b"), Type: r53types.RRTypeTxt}}}}}
	if _, err := c.ChangeResourceRecordSets(ctx, in); err != nil || !reflect.DeepEqual(changed, in) {
		t.Errorf("%v: %+v", err, changed)
	}
	_, err = c.DeleteHostedZone(ctx, &awsr53.DeleteHostedZoneInput{Id: aws.String("Z9")})
	wiretest.Refused(t, err, "NoSuchHostedZone", "No hosted zone found with ID: Z9")
	_, err = c.GetHostedZone(ctx, &awsr53.GetHostedZoneInput{Id: aws.String("Z9")})
	wiretest.Refused(t, err, "UnknownOperationException", "route53 has no operation GET")
}

// grant and its kin are of S3's kind: attributes, namespaces, lists and maps without an element around them.
type grantee struct {
	Kind *string
	ID   *string
}

type policy struct {
	Grantee *grantee
	Rules   []string
	Tags    map[string]string
	Wide    map[string]string
}

func policySchema() *smithy.Schema {
	who := structure("Grantee", "ID", text)
	who.AddMember("Kind", text, &traits.XMLAttribute{}, &traits.XMLName{Name: "xsi:type"})
	rules := shape("Rules", smithy.ShapeTypeList)
	rules.AddMember("member", text)
	table := shape("Tags", smithy.ShapeTypeMap)
	table.AddMember("key", text, &traits.XMLName{Name: "K"})
	table.AddMember("value", text, &traits.XMLName{Name: "V"})
	s := shape("Policy", smithy.ShapeTypeStructure)
	s.AddMember("Grantee", who, &traits.XMLNamespace{URI: "http://www.w3.org/2001/XMLSchema-instance", Prefix: "xsi"})
	s.AddMember("Rules", rules, &traits.XMLFlattened{}, &traits.XMLName{Name: "Rule"})
	s.AddMember("Tags", table, &traits.XMLFlattened{}, &traits.XMLName{Name: "Tag"})
	s.AddMember("Wide", table)
	return s
}

func TestXMLOfS3sKind(t *testing.T) {
	s := policySchema()
	v := &policy{Grantee: &grantee{aws.String("User"), aws.String("<1>")}, Rules: []string{"a", "b"}, Tags: map[string]string{"x": "1", "y": ""},
		Wide: map[string]string{"z": "2"}}
	const want = `<Policy><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="User"><ID>&lt;1&gt;</ID></Grantee>` +
		`<Rule>a</Rule><Rule>b</Rule><Tag><K>x</K><V>1</V></Tag><Tag><K>y</K><V></V></Tag><Wide><entry><K>z</K><V>2</V></entry></Wide></Policy>`
	got := string(wire.EncodeElement("Policy", s, v))
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	again := &policy{}
	if err := wire.DecodeElement([]byte(got), s, again); err != nil || !reflect.DeepEqual(again, v) {
		t.Errorf("%v %+v", err, again)
	}
}

func FuzzDecodeXML(f *testing.F) {
	f.Add([]byte(`<Policy><Rule>a</Rule></Policy>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`))
	s := policySchema()
	f.Fuzz(func(t *testing.T, body []byte) { wire.DecodeElement(body, s, &policy{}) })
}
