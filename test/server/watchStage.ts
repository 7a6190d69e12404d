/** What the tests of a server that watches the chain have in common. */
import { randomBytes } from "node:crypto";
import type { Hex } from "viem";
import { topUpWithAuthorizationCall } from "../../src/escrow/calls.ts";
import { type Authorization, signAuthorization, topUpAuthorizationNonce } from "../../src/voucher/index.ts";
import type { Answer, PaidServer, Payer, TestChannel } from "../support/world.ts";

/** The chain is looked at all the time. */
export const WATCHING = { watch: { pollMs: 20 } } as const;

/** The chain is looked at when the server starts and when it is told to (`engine.settle()`), and not by itself. */
export const WHEN_TOLD = { watch: { pollMs: 60_000 } } as const;

/** How long anything may take on a machine that is busy. */
const PATIENCE_MS = 20_000;

/** Waits for something to become so. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
	const deadline = Date.now() + PATIENCE_MS;
	while (!(await holds())) {
		if (Date.now() > deadline) throw new Error(`waited ${PATIENCE_MS} ms in vain: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}

/** Pays one request with a voucher of `amount`. */
export async function pay(server: PaidServer, payer: Payer, channel: TestChannel, amount: bigint): Promise<Answer> {
	return server.pay("/session", await payer.voucher(await server.challenge("/session"), channel, amount));
}

/** How often one look at the chain asks for a block, at most. */
const BLOCKS_PER_LOOK = 4;

/** The server has looked at the chain once more, from beginning to end. */
export async function nextLook({ rpc }: PaidServer): Promise<void> {
	const before = rpc.calls("eth_getBlockByNumber");
	const enough = before + 2 * BLOCKS_PER_LOOK;
	await until("the server looks at the chain", () => rpc.calls("eth_getBlockByNumber") > enough);
}

/** The server has read all that it had to read again. */
export async function settledDown(server: PaidServer): Promise<void> {
	for (let before = -1; before !== server.rpc.calls("eth_call"); ) {
		before = server.rpc.calls("eth_call");
		await nextLook(server);
	}
}

/** Tops up somebody else's channel, past the server. */
export async function topUpAsStranger(stranger: Payer, channel: TestChannel, value: bigint): Promise<void> {
	const { channelId, escrow } = channel;
	const salt: Hex = `0x${randomBytes(32).toString("hex")}`;
	const from = stranger.address;
	const nonce = topUpAuthorizationNonce({ channelId, additionalDeposit: value, from, topUpSalt: salt });
	const authorization: Authorization = { from, to: escrow, value, validAfter: 0n, validBefore: 2n ** 40n, nonce };
	const signature = await signAuthorization("receive", stranger.account, stranger.tokenDomain, authorization);
	await stranger.sendBlind(topUpWithAuthorizationCall(escrow, channelId, salt, { ...authorization, signature }));
}
