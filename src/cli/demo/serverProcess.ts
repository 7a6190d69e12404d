/**
 * The demo's paid server, a process of its own. Says its URL, and then what it was asked to tell. Ends on SIGTERM after the last
 * request, or with its input.
 */
import Fastify, { type FastifyInstance } from "fastify";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { LevelStore, PaymentEngine, type PaymentHooks, sluice, stopOnSignals } from "../../server/index.ts";
import { asText, runAsChild, type Started, say } from "./asChild.ts";
import { allowPagesOf } from "./cors.ts";
import { Crash } from "./crash.ts";
import { type Listening, policyOf, type ServerCommand, type ServerSettings } from "./serverSettings.ts";
import { type TokensQuery, tokens } from "./tokens.ts";

await runAsChild(start);

async function start(settings: ServerSettings): Promise<Started<ServerCommand>> {
	const { watch, limits, tell = [] } = settings;

	const crash = new Crash();
	let aheadMs = 0;
	const store = await LevelStore.open({ folder: settings.folder, name: "the demo's server" });
	const settlement = policyOf(settings.settlement);
	const engine = await PaymentEngine.start({
		realm: "demo.sluice.local",
		client: createPublicClient({
			transport: crash.watchNode(http(settings.rpcUrl)),
			pollingInterval: 50,
			cacheTime: 0,
		}),
		chainId: settings.chainId,
		escrow: settings.escrow,
		currency: settings.token,
		account: privateKeyToAccount(settings.privateKey),
		secrets: [settings.secret],
		store: await crash.watchStore(store),
		receiptPollMs: 20,
		now: () => Date.now() + aheadMs,
		hooks: Object.fromEntries(tell.map((event) => [event, tells(event)])),
		...(settlement !== undefined && { settlement }),
		...(watch !== undefined && { watch }),
		...(limits !== undefined && { limits }),
	});
	const app = Fastify({ logger: false });
	if (settings.allowOrigin !== undefined) allowPagesOf(app, settings.allowOrigin);
	await app.register(sluice, { engine });
	addRoutes(app, settings);
	const url = await app.listen({ host: "127.0.0.1", port: settings.port });
	stopOnSignals(
		async () => {
			await app.close();
			await engine.stop();
			await store.close();
		},
		{ say: (text) => void (text.startsWith("SIGTERM: stopping;") || process.stderr.write(`${text}\n`)) },
	);
	const { maxVouchersPerSecond } = engine.limits;
	return {
		hello: { url, maxVouchersPerSecond } satisfies Listening,
		obey(command) {
			if ("arm" in command) crash.arm(command.arm);
			else if ("aheadMs" in command) {
				aheadMs = command.aheadMs;
				say({ armed: "clock" });
			} else void engine.settle();
		},
	};
}

function addRoutes(app: FastifyInstance, settings: ServerSettings): void {
	const { price, suggestedDeposit, smallDeposit, splits } = settings;
	let served = 0;
	const serve = async () => ({ served: ++served });
	const permit2 = { price, unitType: "request", suggestedDeposit: smallDeposit, credentialTypes: ["permit2"] } as const;
	app.get("/session", { config: { payment: { price, unitType: "request", suggestedDeposit } } }, serve);
	app.get("/permit2", { config: { payment: permit2 } }, serve);
	app.get("/splits", { config: { payment: { price, intent: "charge", splits } } }, serve);
	const metered = { price, unitType: "token", suggestedDeposit, metered: true };
	app.get<{ Querystring: TokensQuery }>("/stream", { config: { payment: metered } }, tokens);
	app.get("/charge", { config: { payment: { price, intent: "charge" } } }, serve);
}

function tells(event: keyof PaymentHooks): (values: object) => void {
	return (values) => say({ event, at: Date.now(), ...asText(values) });
}
