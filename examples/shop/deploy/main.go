// Command deploy brings the shop to an ECS cluster with the AWS SDK alone: it works against Berth and would against AWS. It may be
// run again at any time: it makes what is missing, changes what differs, and leaves the rest.
//
// The images shop/storefront, shop/auth, shop/inventory and shop/payment must be in the account's ECR.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	shop     = "shop" // name of the cluster, the load balancer and the log group
	httpPort = 8080   // on which every program listens
)

// part is one of the shop's services.
type part struct {
	name  string
	count int32
	path  string // of the listener's rule; "" for the default action
}

var parts = []part{
	{"storefront", 2, ""},
	{"auth", 1, "/auth/*"},
	{"inventory", 1, "/inventory/*"},
	{"payment", 2, "/payment/*"},
}

// deployer holds the clients and what the steps found.
type deployer struct {
	ecs     *ecs.Client
	ecr     *ecr.Client
	elb     *elb.Client
	ec2     *ec2.Client
	logs    *cloudwatchlogs.Client
	region  string
	account string
	port    int32
	subnets []string
	vpc     string
}

func main() {
	log.SetFlags(0)
	port := flag.Int("port", 8080, "port of the shop's load balancer")
	wait := flag.Duration("wait", 3*time.Minute, "how long to wait for the services to become stable")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *wait+time.Minute)
	defer cancel()
	if err := run(ctx, int32(*port), *wait); err != nil {
		log.Fatalf("deploy: %v", err)
	}
}

func run(ctx context.Context, port int32, wait time.Duration) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	d := &deployer{ecs: ecs.NewFromConfig(cfg), ecr: ecr.NewFromConfig(cfg), elb: elb.NewFromConfig(cfg), ec2: ec2.NewFromConfig(cfg),
		logs: cloudwatchlogs.NewFromConfig(cfg), region: cfg.Region, port: port}
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if err != nil {
		return fmt.Errorf("who am I: %w", err)
	}
	d.account = *who.Account
	if err := d.base(ctx); err != nil {
		return err
	}
	address, groups, err := d.loadBalancer(ctx)
	if err != nil {
		return fmt.Errorf("load balancer: %w", err)
	}
	key := make([]byte, 16)
	rand.Read(key)
	for _, p := range parts {
		if err := d.service(ctx, p, groups[p.name], hex.EncodeToString(key)); err != nil {
			return fmt.Errorf("service %s: %w", p.name, err)
		}
	}
	if err := d.stable(ctx, wait); err != nil {
		return err
	}
	fmt.Println(address)
	return nil
}

// base makes the cluster and the log group and finds the default network.
func (d *deployer) base(ctx context.Context) error {
	if _, err := d.ecs.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: aws.String(shop)}); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	_, err := d.logs.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String(shop)})
	if err != nil && !is[*logstypes.ResourceAlreadyExistsException](err) {
		return fmt.Errorf("log group: %w", err)
	}
	vpcs, err := d.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: filter("is-default", "true")})
	if err != nil || len(vpcs.Vpcs) == 0 {
		return fmt.Errorf("find the default VPC: %w", err)
	}
	d.vpc = *vpcs.Vpcs[0].VpcId
	subnets, err := d.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: filter("vpc-id", d.vpc)})
	if err != nil {
		return fmt.Errorf("find subnets: %w", err)
	}
	for _, s := range subnets.Subnets {
		d.subnets = append(d.subnets, *s.SubnetId)
	}
	return nil
}

func filter(name, value string) []ec2types.Filter {
	return []ec2types.Filter{{Name: &name, Values: []string{value}}}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// service registers the part's task definition when its image changed, and makes or updates its service.
func (d *deployer) service(ctx context.Context, p part, group, key string) error {
	image, err := d.image(ctx, p)
	if err != nil {
		return err
	}
	definition, changed, err := d.definition(ctx, p, image, key)
	if err != nil {
		return err
	}
	found, err := d.ecs.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: aws.String(shop), Services: []string{p.name}})
	if err != nil {
		return err
	}
	if len(found.Services) > 0 && *found.Services[0].Status == "ACTIVE" {
		s := found.Services[0]
		if !changed && *s.TaskDefinition == definition && s.DesiredCount == p.count {
			log.Printf("service %-10s unchanged", p.name)
			return nil
		}
		log.Printf("service %-10s updating to %s", p.name, definition)
		_, err = d.ecs.UpdateService(ctx, &ecs.UpdateServiceInput{Cluster: aws.String(shop), Service: &p.name,
			TaskDefinition: &definition, DesiredCount: &p.count})
		return err
	}
	log.Printf("service %-10s creating with %d tasks", p.name, p.count)
	_, err = d.ecs.CreateService(ctx, &ecs.CreateServiceInput{
		Cluster: aws.String(shop), ServiceName: &p.name, TaskDefinition: &definition, DesiredCount: &p.count,
		LaunchType: ecstypes.LaunchTypeFargate,
		NetworkConfiguration: &ecstypes.NetworkConfiguration{
			AwsvpcConfiguration: &ecstypes.AwsVpcConfiguration{Subnets: d.subnets}},
		LoadBalancers: []ecstypes.LoadBalancer{
			{TargetGroupArn: &group, ContainerName: &p.name, ContainerPort: aws.Int32(httpPort)}},
		DeploymentConfiguration: &ecstypes.DeploymentConfiguration{
			DeploymentCircuitBreaker: &ecstypes.DeploymentCircuitBreaker{Enable: true, Rollback: true}},
		HealthCheckGracePeriodSeconds: aws.Int32(10),
	})
	return err
}

// image names the part's newest image by its digest, so that a new push is a new task definition.
func (d *deployer) image(ctx context.Context, p part) (string, error) {
	name := shop + "/" + p.name
	repo, err := d.ecr.DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: []string{name}})
	if err != nil {
		return "", err
	}
	images, err := d.ecr.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name,
		ImageIds: []ecrtypes.ImageIdentifier{{ImageTag: aws.String("latest")}}})
	if err != nil {
		return "", err
	}
	return *repo.Repositories[0].RepositoryUri + "@" + *images.ImageDetails[0].ImageDigest, nil
}

// definition returns the family's newest revision when it has this image, else registers another. Both auth and payment need the
// same key, which therefore stays what it was while a revision with one exists.
func (d *deployer) definition(ctx context.Context, p part, image, key string) (arn string, changed bool, err error) {
	family := shop + "-" + p.name
	newest, err := d.ecs.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &family})
	if err == nil && *newest.TaskDefinition.ContainerDefinitions[0].Image == image {
		return *newest.TaskDefinition.TaskDefinitionArn, false, nil
	}
	if old, err := d.ecs.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{
		TaskDefinition: aws.String(shop + "-auth")}); err == nil {
		for _, e := range old.TaskDefinition.ContainerDefinitions[0].Environment {
			if *e.Name == "TOKEN_KEY" {
				key = *e.Value
			}
		}
	}
	out, err := d.ecs.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: &family, NetworkMode: ecstypes.NetworkModeAwsvpc,
		RequiresCompatibilities: []ecstypes.Compatibility{ecstypes.CompatibilityFargate},
		Cpu:                     aws.String("256"), Memory: aws.String("512"),
		ExecutionRoleArn: aws.String("arn:aws:iam::" + d.account + ":role/ecsTaskExecutionRole"),
		ContainerDefinitions: []ecstypes.ContainerDefinition{{
			Name: &p.name, Image: &image, Essential: aws.Bool(true),
			PortMappings:           []ecstypes.PortMapping{{ContainerPort: aws.Int32(httpPort)}},
			Environment:            []ecstypes.KeyValuePair{{Name: aws.String("TOKEN_KEY"), Value: &key}},
			ReadonlyRootFilesystem: aws.Bool(true),
			LogConfiguration: &ecstypes.LogConfiguration{LogDriver: ecstypes.LogDriverAwslogs, Options: map[string]string{
				"awslogs-group": shop, "awslogs-region": d.region, "awslogs-stream-prefix": p.name}},
		}},
	})
	if err != nil {
		return "", false, err
	}
	return *out.TaskDefinition.TaskDefinitionArn, true, nil
}

// stable waits until every service runs what it should, and says what holds it up when it does not.
func (d *deployer) stable(ctx context.Context, wait time.Duration) error {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	in := &ecs.DescribeServicesInput{Cluster: aws.String(shop), Services: names}
	w := ecs.NewServicesStableWaiter(d.ecs, func(o *ecs.ServicesStableWaiterOptions) { o.MinDelay, o.MaxDelay = time.Second, 2*time.Second })
	log.Printf("waiting for the services to become stable")
	err := w.Wait(ctx, in, wait)
	if err == nil {
		return nil
	}
	out, derr := d.ecs.DescribeServices(context.WithoutCancel(ctx), in)
	if derr != nil {
		return errors.Join(err, derr)
	}
	for _, s := range out.Services {
		for _, e := range s.Events[:min(3, len(s.Events))] {
			log.Printf("%s: %s", *s.ServiceName, *e.Message)
		}
	}
	return err
}
