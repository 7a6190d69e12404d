import { readAuthorizationState } from "../../escrow/reads.ts";
import { AUTHORIZATION, parseCredential, problemType } from "../../protocol/index.ts";
import { chargeNonce } from "../../voucher/index.ts";
import { chargeOutcome } from "./chargeOutcome.ts";
import { check, type Outcome } from "./report.ts";
import { PRICE, type World } from "./world.ts";

/** One ERC-3009 charge: the payer signs once, the server moves the money and pays the gas; the credential is good once. */
export async function chargeScenario(
	world: World,
	_options: unknown,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, token, payer } = world;
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
	const payerGas = await chain.client.getBalance({ address: payer.address });
	const { received: _, ...outcome } = await chargeOutcome(world, {
		scenario: "charge",
		response: first,
		secondsPaid,
		recipients: [],
		contract: token,
	});
	return {
		...outcome,
		checks: [
			...outcome.checks,
			check("the agent signed once", 1, sent.length),
			check("the payee received the price", PRICE, outcome.payeeReceived),
			check(
				"the payer needed no gas",
				"0 coins, 0 transactions",
				`${payerGas} coins, ${outcome.payerTransactions} transactions`,
			),
			check("the authorization's nonce is used on chain", true, nonceUsed),
			check("the same credential again is refused", 402, second.status),
			check("as a challenge that was answered already", problemType("invalid-challenge"), secondProblem),
		],
	};
}
