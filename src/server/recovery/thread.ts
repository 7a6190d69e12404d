/** A thread that recovers keys: curve arithmetic and nothing else. It knows no channel and decides nothing. */
import { parentPort, workerData } from "node:worker_threads";
import { chooseCurve } from "../curves.ts";
import { Gate } from "./gate.ts";
import { END, packAnswers, unpackQuestions } from "./messages.ts";

const gate = new Gate(workerData);
// That a curve is sound is seen by its arithmetic.
const { secp256k1, curve } = gate.inside(() => chooseCurve());

parentPort?.on("message", (packed: Uint8Array | typeof END) => {
	if (packed === END) return parentPort?.close();
	const keys = gate.inside(() =>
		unpackQuestions(packed).map(({ compact, recovery, digest }) => {
			gate.pass();
			return secp256k1.recover(compact, recovery, digest);
		}),
	);
	const answers = packAnswers(keys);
	parentPort?.postMessage(answers, [answers.buffer]);
});
parentPort?.postMessage({ curve });
