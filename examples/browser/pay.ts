import { PaymentClient } from "sluice/client";
import { createPublicClient, type Hex, http } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

const { api, rpcUrl, chainId, escrow, token } = document.body.dataset as Record<string, string>;
const byId = (id: string) => document.getElementById(id) as HTMLElement;

const key = (localStorage.getItem("purse") ?? generatePrivateKey()) as Hex;
localStorage.setItem("purse", key);
const account = privateKeyToAccount(key);
byId("purse").textContent = account.address;

const payer = new PaymentClient({
	account, // needs tokens, but no gas
	client: createPublicClient({ transport: http(rpcUrl) }),
	policy: {
		chainIds: [Number(chainId)],
		tokens: [String(token)],
		escrows: [String(escrow)],
		hosts: [new URL(String(api)).host],
		maxDeposit: 50_000n,
		maxPrice: 100n, // for a token
		maxStream: 25_000n, // for an answer
	},
	resume: JSON.parse(localStorage.getItem("channels") ?? "[]"), // of the last visit
});
const remember = () =>
	localStorage.setItem("channels", JSON.stringify(payer.channels.map((channel) => channel.state())));

let asking = new AbortController();
byId("stop").onclick = () => asking.abort();
byId("close").onclick = async () => {
	asking.abort();
	for (const { receipt } of await payer.close()) byId("paid").textContent = `Closed; paid in all: ${receipt.spent}`;
	remember();
};
byId("ask").onsubmit = async (event) => {
	event.preventDefault();
	asking.abort();
	asking = new AbortController();
	const { signal } = asking;
	const url = `${api}/chat?q=${encodeURIComponent((byId("question") as HTMLInputElement).value)}`;
	byId("answer").textContent = "";
	try {
		for await (const { data } of payer.stream(url, { signal })) {
			byId("answer").append(data);
			byId("paid").textContent = `Paid so far: ${payer.channels[0]?.consumed}`;
			remember();
		}
	} catch (error) {
		if (!signal.aborted) byId("answer").append(`\n${error}`);
	} finally {
		remember();
	}
};
