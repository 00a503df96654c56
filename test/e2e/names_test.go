package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	discovery "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	discoverytypes "github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

// TestTasksFindServicesByName: a task that ran before the namespace was made reaches the service's tasks by its name, over kills of the
// server and of the proxy, and not any more once the service has none.
func TestTasksFindServicesByName(t *testing.T) {
	b := start(t)
	ctx, client := context.Background(), discovery.NewFromConfig(b.config())
	b.importImage("app:1")
	container := types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}}
	definition := b.register("web", types.NetworkModeAwsvpc, container)
	asker := b.reaches(b.run(definition, 1, types.NetworkModeAwsvpc)[0], "RUNNING")
	url := "http://" + *asker.Containers[0].NetworkInterfaces[0].PrivateIpv4Address + "/ask?url=http://web.shop.local/"
	found := func() error {
		status, body, _, err := get(url)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d: %s", status, body)
		}
		return err
	}
	lost := func() error {
		if found() == nil {
			return errors.New("it is found")
		}
		return nil
	}
	b.eventually(20*time.Second, "the name is not there yet", func() error {
		if _, body, _, _ := get(url); !strings.Contains(body, "no such host") {
			return errors.New(body)
		}
		return nil
	})
	vpcs, err := ec2.NewFromConfig(b.config()).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.CreatePrivateDnsNamespace(ctx, &discovery.CreatePrivateDnsNamespaceInput{Name: aws.String("shop.local"), Vpc: vpcs.Vpcs[0].VpcId,
		Properties: &discoverytypes.PrivateDnsNamespaceProperties{DnsProperties: &discoverytypes.PrivateDnsPropertiesMutable{
			SOA: &discoverytypes.SOA{TTL: aws.Int64(1)}}}})
	if err != nil {
		t.Fatal(err)
	}
	op, err := client.GetOperation(ctx, &discovery.GetOperationInput{OperationId: made.OperationId})
	if err != nil {
		t.Fatal(err)
	}
	name, err := client.CreateService(ctx, &discovery.CreateServiceInput{Name: aws.String("web"), NamespaceId: aws.String(op.Operation.Targets["NAMESPACE"]),
		DnsConfig: &discoverytypes.DnsConfig{DnsRecords: []discoverytypes.DnsRecord{{Type: discoverytypes.RecordTypeA, TTL: aws.Int64(1)}}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.ecs().CreateService(ctx, &ecs.CreateServiceInput{ServiceName: aws.String("web"), TaskDefinition: &definition, DesiredCount: aws.Int32(2),
		NetworkConfiguration: network, ServiceRegistries: []types.ServiceRegistry{{RegistryArn: name.Service.Arn}}})
	if err != nil {
		t.Fatal(err)
	}
	b.stable("web")
	b.eventually(20*time.Second, "the service is found by its name", found)

	// From here on it is found without a pause, whoever is killed.
	stop, asked := make(chan struct{}), make(chan []string)
	go func() {
		var failed []string
		for n := 0; ; n++ {
			select {
			case <-stop:
				asked <- append(failed, fmt.Sprint(n, " questions"))
				return
			case <-time.After(50 * time.Millisecond):
				if err := found(); err != nil {
					failed = append(failed, err.Error())
				}
			}
		}
	}()
	b.signal(syscall.SIGKILL)
	b.wait()
	b.up()
	for _, pid := range b.proxyPIDs() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	time.Sleep(3 * time.Second)
	close(stop)
	if failed := <-asked; len(failed) > 1 {
		t.Errorf("while the server and the proxy were killed: %q", failed)
	}
	if _, err = b.ecs().UpdateService(ctx, &ecs.UpdateServiceInput{Service: aws.String("web"), DesiredCount: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	b.eventually(30*time.Second, "the name has no tasks any more", lost)
	b.eventually(30*time.Second, "the registry is empty", func() error {
		out, err := client.ListInstances(ctx, &discovery.ListInstancesInput{ServiceId: name.Service.Id})
		if err == nil && len(out.Instances) > 0 {
			err = errors.New("it has instances")
		}
		return err
	})
}
