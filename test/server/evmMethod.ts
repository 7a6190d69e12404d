import type { EngineContext } from "../../src/server/context.ts";
import { EvmMethod } from "../../src/server/evm/method.ts";
import type { ChargeOffer, SessionOffer } from "../../src/server/evm/offer.ts";
import { chargeTypes, sessionTypes, type Terms } from "../../src/server/evm/terms.ts";

const everything = {
	hasErc3009: true,
	hasPermit2: true,
	relayed: { authorization: true, permit2: true },
	feePayer: true,
};

/** Terms of a token that can do everything, on a chain with Permit2. */
export function testTerms(its: Partial<Terms> = {}): Terms {
	return {
		realm: "api.example.com",
		chainId: 8_453,
		escrow: `0x${"dd".repeat(20)}`,
		currency: `0x${"cc".repeat(20)}`,
		recipient: `0x${"bb".repeat(20)}`,
		feePayer: true,
		minVoucherDelta: 0n,
		permit2: "0x000000000022d473030f116ddee9f6b43ac78ba3",
		sessionTypes: sessionTypes(everything),
		chargeTypes: chargeTypes(everything),
		...its,
	};
}

/** The `evm` method as far as it needs neither chain nor store: offers, requests, challenges. */
export function testMethod(...terms: Terms[]): EvmMethod {
	return new EvmMethod(
		terms.map((one) => ({ terms: one }) as EngineContext),
		[],
		[],
	);
}

export function sessionOffer(terms: Terms, its: Partial<SessionOffer> = {}): SessionOffer {
	const { sessionTypes: credentialTypes } = terms;
	return { method: "evm", intent: "session", amount: 100n, bindBody: false, terms, credentialTypes, ...its };
}

export function chargeOffer(terms: Terms, its: Partial<ChargeOffer> = {}): ChargeOffer {
	const credentialTypes = terms.chargeTypes.filter((type) => type !== "hash");
	return { method: "evm", intent: "charge", amount: 100n, bindBody: true, terms, credentialTypes, ...its };
}
