package wire_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthdev/berth/internal/api/eks"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
)

// TestRESTThroughTheSDK: signed paths, labels, the query, bodies and refusals, between the stock client and a real endpoint.
func TestRESTThroughTheSDK(t *testing.T) {
	service := eks.New()
	var listed *awseks.ListClustersInput
	var untagged *awseks.UntagResourceInput
	wire.Handle(service, func(_ context.Context, in *awseks.ListClustersInput) (*awseks.ListClustersOutput, error) {
		listed = in
		return &awseks.ListClustersOutput{Clusters: []string{"a", "b"}, NextToken: aws.String("more")}, nil
	})
	wire.Handle(service, func(_ context.Context, in *awseks.UntagResourceInput) (*awseks.UntagResourceOutput, error) {
		untagged = in
		return nil, nil
	})
	refusal := error(model.Errorf("ResourceInUseException", "Cluster already exists with name: shop"))
	wire.Handle(service, func(_ context.Context, in *awseks.CreateClusterInput) (*awseks.CreateClusterOutput, error) {
		if refusal != nil {
			return nil, refusal
		}
		return &awseks.CreateClusterOutput{Cluster: &ekstypes.Cluster{Name: in.Name, RoleArn: in.RoleArn,
			ResourcesVpcConfig: &ekstypes.VpcConfigResponse{SubnetIds: in.ResourcesVpcConfig.SubnetIds}}}, nil
	})
	conf, _ := stock(t, newECS(), service)
	c := awseks.NewFromConfig(conf)

	out, err := c.ListClusters(ctx, &awseks.ListClustersInput{MaxResults: aws.Int32(7), Include: []string{"a b&c", "x"}})
	if err != nil || !reflect.DeepEqual(out.Clusters, []string{"a", "b"}) || *out.NextToken != "more" {
		t.Fatalf("%v %+v", err, out)
	}
	if *listed.MaxResults != 7 || !reflect.DeepEqual(listed.Include, []string{"a b&c", "x"}) {
		t.Errorf("read as %+v", listed)
	}

	arn := "arn:aws:eks:eu-west-3:000000000000:cluster/a b%/ü+" // slashes and all, in one label
	if _, err := c.UntagResource(ctx, &awseks.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"k1", "k2"}}); err != nil {
		t.Fatal(err)
	}
	if *untagged.ResourceArn != arn || !reflect.DeepEqual(untagged.TagKeys, []string{"k1", "k2"}) {
		t.Errorf("read as %q %v", *untagged.ResourceArn, untagged.TagKeys)
	}

	create := &awseks.CreateClusterInput{Name: aws.String("shop"), RoleArn: aws.String("r"),
		ResourcesVpcConfig: &ekstypes.VpcConfigRequest{SubnetIds: []string{"subnet-1"}}}
	_, err = c.CreateCluster(ctx, create)
	if e, ok := errors.AsType[*ekstypes.ResourceInUseException](err); !ok || *e.Message != "Cluster already exists with name: shop" {
		t.Errorf("%v", err)
	}
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); !ok || r.HTTPStatusCode() != http.StatusConflict {
		t.Errorf("%v", err)
	}
	refusal = nil
	made, err := c.CreateCluster(ctx, create)
	if err != nil || *made.Cluster.Name != "shop" || made.Cluster.ResourcesVpcConfig.SubnetIds[0] != "subnet-1" {
		t.Errorf("%v %+v", err, made)
	}

	refusal = errors.New("secret detail")
	if _, err = c.CreateCluster(ctx, create); code(err) != "ServerException" {
		t.Errorf("a fault: %v", err)
	}
	_, err = c.DescribeCluster(ctx, &awseks.DescribeClusterInput{Name: aws.String("shop")})
	if code(err) != "UnsupportedOperationException" {
		t.Errorf("an operation that Berth lacks: %v", err)
	}
	_, err = awseks.NewFromConfig(conf, func(o *awseks.Options) {
		o.HTTPClient = changed(func(r *http.Request) { r.URL.Path = "/clusters/other" })
	}).ListClusters(ctx, nil)
	if code(err) != "InvalidSignatureException" {
		t.Errorf("the path was changed: %v", err)
	}
}

// TestEKSIsRefusedByName: every operation of EKS answers the stock client with an error that names it.
func TestEKSIsRefusedByName(t *testing.T) {
	conf, _ := stock(t, eks.New())
	n := 0
	eachOperation(awseks.NewFromConfig(conf), func(name string, in, _ reflect.Type, call func(any) (any, error)) {
		n++
		_, err := call(filled(in))
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "UnsupportedOperationException" ||
			e.ErrorMessage() != "Berth does not support eks:"+name+" yet" {
			t.Errorf("%s: %v", name, err)
		}
	})
	if n < 60 {
		t.Errorf("%d operations", n)
	}
}
