"""From a photo to a prepared eye: vessels, landmarks, arrival of the dye, lesions."""
