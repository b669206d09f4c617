// A Node service as its author wrote it: the SDK for Node with HTTP instrumentation; it serves one request that fails.
const { NodeSDK } = require("@opentelemetry/sdk-node");
const { HttpInstrumentation } = require("@opentelemetry/instrumentation-http");
const { trace, context, SpanStatusCode } = require("@opentelemetry/api");
const { logs } = require("@opentelemetry/api-logs");
const sdk = new NodeSDK({ serviceName: "node-shop", instrumentations: [new HttpInstrumentation()] });
sdk.start();
const http = require("http");
function takeFromStock(sku) { throw new TypeError(`no stock of ${sku}`); }
const server = http.createServer((request, response) => {
  const tracer = trace.getTracer("shop");
  if (request.url.startsWith("/stock")) { response.end("{}"); return; }
  http.get(`http://127.0.0.1:${server.address().port}/stock/kettle?token=1`, (answer) => {
    answer.resume();
    answer.on("end", () => {
      tracer.startActiveSpan("reserve", (span) => {
        try { takeFromStock("kettle"); } catch (error) {
          span.recordException(error);
          span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
          logs.getLogger("shop").emit({ severityNumber: 17, severityText: "ERROR", body: `could not reserve: ${error.message}` });
        }
        span.end();
      });
      response.statusCode = 500;
      response.end("sorry");
    });
  });
});
server.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}/checkout?sku=kettle`;
  context.with(require("@opentelemetry/api").ROOT_CONTEXT, () => {
    const { suppressTracing } = require("@opentelemetry/core");
    context.with(suppressTracing(context.active()), () => {
      http.get(url, (answer) => { answer.resume(); answer.on("end", async () => { server.close(); await sdk.shutdown(); process.exit(0); }); });
    });
  });
});
