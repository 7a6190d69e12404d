/** A thread that recovers keys: curve arithmetic and nothing else. It knows no channel and decides nothing. */
import { parentPort, workerData } from "node:worker_threads";
import { loadCrypto } from "../crypto.ts";
import { Gate } from "./gate.ts";
import { END, packAnswers, unpackQuestions } from "./messages.ts";

const gate = new Gate(workerData);
const { secp256k1, curve } = await loadCrypto();

parentPort?.on("message", (packed: Uint8Array | typeof END) => {
	if (packed === END) return parentPort?.close();
	gate.enter();
	const keys = unpackQuestions(packed).map(({ compact, recovery, digest }) => {
		gate.pass();
		return secp256k1.recover(compact, recovery, digest);
	});
	gate.leave();
	const answers = packAnswers(keys);
	parentPort?.postMessage(answers, [answers.buffer]);
});
parentPort?.postMessage({ curve });
