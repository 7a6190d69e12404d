import type { FastifyInstance } from "fastify";
import { type PaymentEngine, paid } from "sluice/server";

export function declareRoutes(app: FastifyInstance, engine: PaymentEngine, dai: string, platform: string) {
	// A choice, the preferred one first: by channel in the first token or in another one, or once, with a platform's fee.
	const payment = [
		{ price: "40", unitType: "request", suggestedDeposit: "20000" },
		{ price: "60", currency: dai, credentialTypes: ["permit2"] as const },
		{ price: "1000", intent: "charge" as const, splits: [{ recipient: platform, amount: "50", memo: "platform fee" }] },
	];
	app.get("/model", { config: { payment } }, async (request) => ({ paid: String(request.payment?.amount) }));

	// A price that is made from the request, once its body is there; `opaque` comes back with the payment.
	app.post(
		"/resize",
		{
			config: {
				payment: (request) => ({
					price: String(JSON.stringify(request.body).length),
					intent: "charge" as const,
					opaque: { customer: String(request.headers["x-customer"] ?? "unknown") },
				}),
			},
		},
		async (request) => ({ resizedFor: request.payment?.opaque?.customer }),
	);

	// The same engine for Hono, Next, Bun, Deno: whatever passes a Request and takes a Response.
	return paid(engine, { price: "40" }, async (_request, { amount }) => Response.json({ paid: String(amount) }));
}
