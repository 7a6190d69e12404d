import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { TransactionRevertedError } from "../../../src/escrow/sender.ts";
import { problemType } from "../../../src/protocol/index.ts";
import { revertedProblem } from "../../../src/server/session/reverted.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { approvedPayer, openByPermit2, spareGas, topUpByPermit2 } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import { DEPOSIT, type PaidServer, type Payer, PRICE } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	server = await world.serve();
	payer = await approvedPayer(world);
});
afterEach(() => server.rpc.up());

const challenge = () => server.challenge("/session");

describe("a transaction of ours", () => {
	it("a transaction of ours that reverts once mined is 409 transaction-reverted, for open, top-up and close", async () => {
		const fresh = payer.channel(server.payee);
		const open = await server.open(payer);
		const drafts = [
			await openByPermit2(payer, await challenge(), fresh, { deposit: DEPOSIT }),
			await topUpByPermit2(payer, await challenge(), open, PRICE),
			await payer.close(await challenge(), open, PRICE),
		];
		for (const draft of drafts) {
			spareGas(server);
			const before = await server.transactions();
			const answer = await server.pay("/session", draft);
			expectRefusal(answer, "session/transaction-reverted");
			expect(await server.transactions()).toBe(before + 1);
			const hash = answer.problem?.hash as `0x${string}`;
			expect(await world.chain.client.getTransactionReceipt({ hash })).toMatchObject({ status: "reverted" });
			// Nothing happened, so the same credential is good for another try.
			server.rpc.up();
			expectPaid(await server.pay("/session", draft));
		}
		expect(await server.ledger(fresh)).toMatchObject({ deposit: DEPOSIT });
		expect(await world.onChain(open)).toMatchObject({ deposit: DEPOSIT + PRICE, finalized: true });
	});

	it("a close that reverts is not reported as closed, is 409 transaction-reverted at once, and the channel sells again", async () => {
		const channel = await server.open(payer);
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		spareGas(server);
		const answer = await server.pay("/session", await payer.close(await challenge(), channel, PRICE));
		expectRefusal(answer, "session/transaction-reverted");
		expect(answer.receipt).toBeUndefined();
		server.rpc.up();
		expect(await server.ledger(channel)).toMatchObject({ finalized: false, closingBy: null, closeTxHash: null });
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, 2n * PRICE)));
		expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, 2n * PRICE)));
	});
});

describe("the problem of a revert", () => {
	const mapping = [
		["AmountExceedsDeposit", "session/amount-exceeds-deposit"],
		["ChannelNotFound", "session/channel-not-found"],
		["ChannelFinalized", "session/channel-finalized"],
		["InvalidSignature", "session/invalid-signature"],
		["ERC20InsufficientBalance", "session/insufficient-balance"],
		["ERC20InsufficientAllowance", "session/insufficient-balance"],
		["SafeERC20FailedOperation", "session/insufficient-balance"],
		["TRANSFER_FROM_FAILED", "session/insufficient-balance"],
		["ERC20: transfer amount exceeds balance", "session/insufficient-balance"],
		["NonceMismatch", "session/transaction-reverted"],
		["NonceAlreadyUsed", "session/transaction-reverted"],
		["AuthorizationExpired", "session/transaction-reverted"],
		["AmountNotIncreasing", "session/transaction-reverted"],
		["ChannelAlreadyExists", "session/transaction-reverted"],
		["DepositOverflow", "session/transaction-reverted"],
		["InvalidNonce", "session/transaction-reverted"],
		["unknown", "session/transaction-reverted"],
		["constructor", "session/transaction-reverted"],
	] as const;
	it.each(mapping)("each revert of the escrow is the problem that the draft maps it to: %s", (reason, name) => {
		const { problem } = revertedProblem(new TransactionRevertedError(reason), `0x${"11".repeat(32)}`);
		expect(problem.type).toBe(problemType(name));
		expect(JSON.stringify(problem)).not.toContain(reason);
	});
});
