import { readAuthorizationState } from "../../escrow/reads.ts";
import { AUTHORIZATION, parseCredential, problemType } from "../../protocol/index.ts";
import { chargeNonce } from "../../voucher/index.ts";
import { chargeChecks, readChargeRecord } from "./chargeRecord.ts";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** One ERC-3009 charge: the payer signs once, the server moves the money and pays the gas; the credential is good once. */
export async function chargeScenario(
	world: World,
	_options: unknown,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, token, payer, payee, funds, storePath } = world;
	const url = `${world.server.url}/charge`;
	const sent: string[] = [];
	const agent = world.agent({
		fetch: (input, init) => {
			const request = new Request(input, init);
			const credential = request.headers.get(AUTHORIZATION);
			if (credential !== null) sent.push(credential);
			return fetch(request);
		},
	});

	progress("the agent pays one request by a signature");
	const startedAt = performance.now();
	const first = await agent.fetch(url);
	const secondsPaid = (performance.now() - startedAt) / 1_000;
	const { served: firstServed } = (await first.json()) as { served: number };

	progress("the same credential is sent again");
	const [credential = ""] = sent;
	const second = await fetch(url, { headers: { [AUTHORIZATION]: credential } });
	const { type: secondProblem } = (await second.json()) as { type?: string };

	const { challenge } = parseCredential(credential);
	const nonceUsed = await readAuthorizationState(
		chain.client,
		token,
		payer.address,
		chargeNonce(challenge.id, challenge.realm),
	);
	const payeeReceived = await world.balance(payee.address);
	const payerPaid = funds - (await world.balance(payer.address));
	const payerGas = await chain.client.getBalance({ address: payer.address });
	const payerTransactions = await chain.client.getTransactionCount({ address: payer.address });
	const sessionTransactions = await world.transactionsTo(token);
	const stored = await readChargeRecord(world);
	const ok = first.ok ? 1 : 0;
	return {
		scenario: "charge",
		requests: 1,
		ok,
		failed: 1 - ok,
		price: String(PRICE),
		payeeReceived: String(payeeReceived),
		payerPaid: String(payerPaid),
		stored,
		sessionTransactions,
		secondsPaid: Number(secondsPaid.toFixed(3)),
		requestsPerSecond: Math.round(1 / secondsPaid),
		chainId: chain.chainId,
		storePath,
		checks: [
			check("the request was served", 200, first.status),
			check("it was the first one served", 1, firstServed),
			check("the agent signed once", 1, sent.length),
			check("the payee received the price", PRICE, payeeReceived),
			check("the payer paid the price", PRICE, payerPaid),
			...chargeChecks(stored, payerPaid, [payeeReceived]),
			check(
				"the payer needed no gas",
				"0 coins, 0 transactions",
				`${payerGas} coins, ${payerTransactions} transactions`,
			),
			check("the authorization's nonce is used on chain", true, nonceUsed),
			check("the same credential again is refused", 402, second.status),
			check("as a challenge that was answered already", problemType("invalid-challenge"), secondProblem),
			check("one transaction in all", 1, sessionTransactions),
		],
	};
}
