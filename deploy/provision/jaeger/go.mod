// Builds Jaeger as a tool of a module of our own: its own go.mod has replace directives, which `go install` refuses.
module engage/jaeger

go 1.25.0

tool github.com/jaegertracing/jaeger/cmd/jaeger

require github.com/jaegertracing/jaeger v1.76.0

replace github.com/Shopify/sarama => github.com/Shopify/sarama v1.33.0
